import Base
import Engine
import Settings
import Store

/// The node's settings as each room takes them.
extension NodeSettings {
  var storeOptions: StoreOptions {
    var options = StoreOptions()
    options.acceptTornTail = acceptTornTail
    options.minFreeBytes = Int(clamping: diskMinFreeBytes)
    return options
  }

  var engineSettings: EngineSettings {
    var out = EngineSettings()
    switch replayWindow {
    case .off: out.replayWindow = .none
    case .all: out.replayWindow = .all
    case .last(let interval): out.replayWindow = .last(interval)
    }
    out.retention = Engine.Retention(
      age: retention.age, bytes: retention.bytes, messages: retention.messages)
    out.stallTimeout = stallTimeout
    out.tailBytes = tailBytes
    out.shardTailBytes = shardTailBytes
    return out
  }

  var engineDurability: Engine.Durability { durability == .synced ? .synced : .written }
}
