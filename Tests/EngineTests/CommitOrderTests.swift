import Base
import Engine
import TestKit
import Testing

/// Transcripts of commit order: a line is what a member sends, or what the engine says to it.
///
///     commit SESSION EPOCH BYTES [key K]   close SESSION   restart   write   say SESSION TEXT
@Suite("Commit order", .timeLimit(.minutes(1)))
struct CommitOrderTests {
  let ref = EngineRig.channel("acme/ns/group")

  /// Runs the script's inputs and gives what was said after each.
  func play(_ rig: EngineRig, _ script: String) -> String {
    var out: [String] = []
    for line in script.split(separator: "\n").map(String.init) {
      let words = line.split(separator: " ").map(String.init)
      guard let verb = words.first, !line.hasPrefix("  ") else { continue }
      out.append(line)
      func number(_ i: Int) -> Int { Int(words[i]) ?? 0 }
      switch verb {
      case "commit":
        let key = words.count > 5 ? UInt64(words[5]) ?? 0 : UInt64(number(1))
        rig.publish(
          number(1), ref, words[3], as: EngineRig.principal("acme", key: key), kind: .skytale,
          mls: .commit, epoch: UInt64(number(2)), token: 0)
      case "say": rig.publish(number(1), ref, words[2], kind: .skytale, mls: .application, token: 0)
      case "subscribe": rig.subscribe(number(1), ref)
      case "close": rig.close(number(1))
      case "restart": rig.restart()
      case "hold": rig.writes = false
      case "write":
        rig.write()
        rig.write()
      case "fail": rig.failWrites()
      default: Issue.record("no verb \(verb)")
      }
      for note in rig.notes {
        if case .generationOpened(_, let generation, let sequence) = note {
          out.append("  generation \(generation) at \(sequence)")
        }
      }
      out += rig.hear().map { "  " + $0 }
    }
    return out.joined(separator: "\n")
  }

  func check(_ script: String, _ settings: EngineSettings = EngineSettings()) {
    let rig = EngineRig(settings)
    #expect(play(rig, script) == script)
    #expect(rig.verify(ref) == [])
  }

  @Test("The first commit of an epoch wins; the same bytes get the same answer")
  func firstWins() {
    check(
      """
      subscribe 9
        subscribed 9
      commit 1 0 a
        deliver 9 1 a
        accepted 1 #0 1
      commit 2 0 b
        refused 2 #0 epoch_taken 1
      commit 1 0 a
        accepted 1 #0 1 again
      commit 2 1 c
        deliver 9 2 c
        accepted 2 #0 2
      say 1 hello
        deliver 9 3 hello
      commit 1 1 d
        refused 1 #0 epoch_taken 2
      commit 1 5 e
        deliver 9 4 e
        accepted 1 #0 4
      commit 1 3 f
        deliver 9 5 f
        accepted 1 #0 5
      """)
  }

  @Test("A commit that waits for its write keeps its rivals and its own bytes waiting")
  func pending() {
    check(
      """
      hold
      commit 1 0 a
      commit 2 0 b
      commit 1 0 a
      write
        accepted 1 #0 1
        refused 2 #0 epoch_taken 1
        accepted 1 #0 1 again
      """)
  }

  @Test("The opener may begin anew at epoch 0, and so may anyone once its stream has ended")
  func generations() {
    check(
      """
      commit 1 0 a
        accepted 1 #0 1
      commit 1 1 b
        accepted 1 #0 2
      commit 2 0 c
        refused 2 #0 epoch_taken 1
      commit 3 0 d key 1
        generation 1 at 3
        accepted 3 #0 3
      commit 2 1 e
        accepted 2 #0 4
      commit 1 1 f
        refused 1 #0 epoch_taken 4
      commit 1 0 a
        accepted 1 #0 1 again
      close 3
      commit 2 0 g
        generation 2 at 5
        accepted 2 #0 5
      """)
  }

  @Test("After a restart every opener's stream has ended, and what won before is known")
  func restarts() {
    check(
      """
      commit 1 0 a
        accepted 1 #0 1
      commit 1 1 b
        accepted 1 #0 2
      restart
      commit 2 1 c
        refused 2 #0 epoch_taken 2
      commit 1 1 b
        accepted 1 #0 2 again
      commit 2 0 d
        generation 1 at 3
        accepted 2 #0 3
      restart
      commit 2 1 e
        accepted 2 #0 4
      commit 1 0 a
        accepted 1 #0 1 again
      """)
  }

  @Test("An opener that is still connected stays the opener while its channel is forgotten")
  func forgottenChannel() {
    var settings = EngineSettings()
    settings.loadedChannels = 1
    let rig = EngineRig(settings)
    _ = play(rig, "commit 1 0 a")
    for i in 0..<10 { rig.publish(5, EngineRig.channel("acme/ns/other\(i)"), "x") }
    #expect(rig.engine.channelState(ref.id) == nil)
    _ = rig.hear()
    #expect(play(rig, "commit 2 0 b") == "commit 2 0 b\n  refused 2 #0 epoch_taken 1")
  }

  @Test("A group that began before the node saw it gives way to a new epoch 0")
  func unseenBeginning() {
    check(
      """
      commit 1 4 a
        accepted 1 #0 1
      commit 2 0 b
        generation 1 at 2
        accepted 2 #0 2
      commit 1 4 c
        accepted 1 #0 3
      """)
  }

  @Test("Epochs older than what is remembered are taken")
  func oldEpochs() {
    var settings = EngineSettings()
    settings.commitsPerChannel = 2
    check(
      """
      commit 1 0 a
        accepted 1 #0 1
      commit 1 1 b
        accepted 1 #0 2
      commit 1 2 c
        accepted 1 #0 3
      commit 1 3 d
        accepted 1 #0 4
      commit 2 1 e
        refused 2 #0 epoch_taken
      commit 2 0 f
        refused 2 #0 epoch_taken
      restart
      commit 2 1 g
        refused 2 #0 epoch_taken
      commit 2 3 h
        refused 2 #0 epoch_taken 4
      """, settings)
  }

  @Test("A failed write takes the commit back, and a new order follows")
  func failedWrite() {
    let rig = EngineRig()
    rig.writes = false
    rig.publish(1, ref, "a", mls: .commit, epoch: 0, token: 5)
    rig.publish(2, ref, "b", kind: .skytale, mls: .commit, epoch: 0, token: 0)
    #expect(rig.hear() == [])
    rig.failWrites()
    #expect(rig.hear() == ["refused 1 #5 disk_full"])
    rig.writes = true
    rig.pass(.seconds(1))
    // The service's commit was refused; the stream's waited, and wins.
    #expect(rig.hear() == ["accepted 2 #0 1"])
    rig.publish(
      1, ref, "a", as: EngineRig.principal("acme", key: 2), mls: .commit, epoch: 0, token: 6)
    #expect(rig.hear() == ["refused 1 #6 epoch_taken 1"])
    #expect(rig.verify(ref) == [])
  }

  @Test("Proposals and application messages are never judged")
  func others() {
    let rig = EngineRig()
    for kind in [MLSKind.none, .application, .proposal, .other] {
      rig.publish(1, ref, "x", mls: kind, epoch: 3)
      rig.publish(2, ref, "y", mls: kind, epoch: 3)
    }
    #expect(rig.hear().count { $0.hasPrefix("accepted") } == 8)
  }

  @Test("Anonymous openers are told apart by their streams only")
  func anonymous() {
    let rig = EngineRig()
    let nobody = Principal(tenant: .none, org: "", key: RecordID(0), anonymous: true)
    rig.publish(1, ref, "a", as: nobody, mls: .commit)
    rig.publish(2, ref, "b", as: nobody, mls: .commit)
    rig.close(1)
    rig.publish(2, ref, "c", as: nobody, mls: .commit)
    #expect(rig.hear() == ["accepted 1 #1 1", "refused 2 #1 epoch_taken 1", "accepted 2 #1 2"])
    #expect(rig.engine.channelState(ref.id)?.generation == 1)
  }
}
