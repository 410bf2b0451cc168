import Foundation
import TestKit

/// Gossip in a simulated net: rounds and bytes until all relays are equal, what a quiet and a busy round costs.
struct GossipBench {
  let options: Options

  struct Cell: Encodable {
    let nodes: Int
    let fanout: Int
    let registrations: Int
    let coldRounds: [Int]
    let coldBytes: [Int]
    let oneRounds: [Int]
    let oneBytes: [Int]
    let idleBytesPerRound: Int
    let churnBytesPerRound: Int
  }

  func run() throws -> [Cell] {
    var cells: [Cell] = []
    for nodes in [3, 10, 50] {
      for registrations in options.quick ? [1_000] : [1_000, 10_000] {
        for fanout in [1, 3] where fanout < nodes {
          let seeds: UInt64 = options.quick ? 2 : registrations > 1_000 ? 3 : 10
          guard
            let cost = GossipCost.measure(
              nodes: nodes, registrations: registrations, fanout: fanout, seeds: seeds)
          else {
            throw BenchTrouble("\(nodes) relays with \(registrations) agents did not converge")
          }
          say("gossip: \(nodes) nodes, \(registrations) agents, fan-out \(fanout)")
          cells.append(
            Cell(
              nodes: nodes, fanout: fanout, registrations: registrations,
              coldRounds: cost.coldRounds, coldBytes: cost.coldBytes, oneRounds: cost.oneRounds,
              oneBytes: cost.oneBytes, idleBytesPerRound: cost.idleBytes,
              churnBytesPerRound: cost.churnBytes))
        }
      }
    }
    return cells
  }

  static func table(_ cells: [Cell]) -> Table {
    var table = Table(
      title: "Gossip between simulated relays",
      columns: [
        "nodes, agents, fan-out", "rounds for all: median, most", "MiB for all", "bytes/copy",
        "rounds for one: median, most", "KiB for one", "idle: bytes/node/round",
        "0.1 % change: bytes/node/round",
      ])
    for cell in cells {
      let bytes = middle(cell.coldBytes)
      let copies = cell.registrations * (cell.nodes - 1)
      table.rows.append([
        "\(cell.nodes), \(Show.count(Double(cell.registrations))), \(cell.fanout)",
        rounds(cell.coldRounds), Show.fixed(Double(bytes) / 1_048_576, 2),
        Show.fixed(Double(bytes) / Double(copies), 0), rounds(cell.oneRounds),
        Show.fixed(Double(middle(cell.oneBytes)) / 1_024, 1),
        Show.count(Double(cell.idleBytesPerRound / cell.nodes)),
        Show.count(Double(cell.churnBytesPerRound / cell.nodes)),
      ])
    }
    return table
  }

  private static func middle(_ values: [Int]) -> Int { values.sorted()[values.count / 2] }
  private static func rounds(_ values: [Int]) -> String {
    "\(middle(values)), \(values.max() ?? 0)"
  }
}
