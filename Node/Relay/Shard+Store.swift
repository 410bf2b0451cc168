import Base
import Engine
import Loop
import Report
import Store

// What the engine asks of the store. It answers on a thread of its own; the loop goes on with it.
extension Shard {
  func write(_ ticket: UInt64, _ set: WriteSet, synced: Bool) {
    writesUnderWay += 1
    node.store.submit(set, synced: synced, chain: chain) { [self] result in
      loop.post { [self] in
        writesUnderWay -= 1
        if writesUnderWay == 0 { chain.mend() }
        switch result {
        case .success: engine.receiveWritten(ticket: ticket, at: loop.now)
        case .failure(let fault): engine.receiveWriteFailed(ticket: ticket, fault, at: loop.now)
        }
        runEffects()
      }
    }
  }

  func load(_ channel: ChannelRef) {
    node.store.read { [self] store in
      let rows = Result { () throws(Fault) in try store.stateRows(of: channel.id) }
      loop.post { [self] in
        switch rows {
        case .success(let rows): engine.receiveLoaded(channel, rows: rows, at: loop.now)
        case .failure(let fault): engine.receiveLoadFailed(channel, fault, at: loop.now)
        }
        runEffects()
      }
    }
  }

  func read(_ ticket: UInt64, _ channel: ChannelRef, from: UInt64, limitBytes: Int) {
    node.store.read { [self] store in
      let rows = Result { () throws(Fault) in
        try store.records(of: channel.id, from: from, limitBytes: limitBytes)
      }
      loop.post { [self] in
        switch rows {
        case .success(let rows): engine.receiveRecords(ticket: ticket, rows: rows, at: loop.now)
        case .failure(let fault):
          engine.receiveReadFailed(ticket: ticket, fault, at: loop.now)
          node.log.error("archive read failed", ["channel": .of(channel.name), "why": .of(fault)])
        }
        runEffects()
      }
    }
  }

  func seek(_ ticket: UInt64, key: [UInt8], prefix: Int) {
    node.store.read { [self] store in
      let row = Result { () throws(Fault) in
        try store.lastRow(.state, atOrBefore: key, prefix: prefix)
      }
      loop.post { [self] in
        switch row {
        case .success(let row): engine.receiveRow(ticket: ticket, row: row, at: loop.now)
        case .failure(let fault): engine.receiveReadFailed(ticket: ticket, fault, at: loop.now)
        }
        runEffects()
      }
    }
  }
}
