package import Base
import Digest
package import Ring
package import Store

/// What source and target of a slot's hand-over send each other, each as the request of one call. Integers are big-endian.
/// Whoever hears of another try, or of another run of the source, than the one it is in, answers `conflict`.
///
///     u8 kind, u16 slot, u64 attempt, u64 epoch, u64 source, u64 target, u64 run of the source (0: not known), then
///     1..8  a `SlotMoveMessage`: offer u64 head · ready u64 have · copied u64 · sealed u64 at, seal · complete seal ·
///           handed u64 revision · opened · stop          seal: u64 run, u32 count
///     9     log: u64 from, u64 through, u32 entries; each u64 index, 24 key, u8 has record, u32 length, record
///     10    rows: seal (count 0: before any), u32 page, u8 flags (1: the last), u32 rows; each u8 table, u32 key
///           length, u32 value length, key, value
///     end   u64 the low half of XXH3-128 of everything before
package struct SlotMoveCall: Equatable, Sendable {
  package enum Body: Equatable, Sendable {
    case message(SlotMoveMessage)
    case log(from: UInt64, through: UInt64, [LogRow])
    case rows(SlotSeal, page: UInt32, isLast: Bool, [TableRow])
  }
  package struct LogRow: Equatable, Sendable {
    package var index: UInt64
    package var key: [UInt8]
    package var record: [UInt8]?
    package init(index: UInt64, key: [UInt8], record: [UInt8]?) {
      (self.index, self.key, self.record) = (index, key, record)
    }
  }
  package struct TableRow: Equatable, Sendable {
    package var table: Table
    package var row: Row
    package init(table: Table, row: Row) { (self.table, self.row) = (table, row) }
  }

  package var id: SlotMoveID
  /// Of the source's process; 0 when its target asks first.
  package var run: UInt64
  package var body: Body

  // MARK: out

  package var encoded: [UInt8] {
    var w = ByteWriter(capacity: 256)
    w.append(kind)
    w.append(bigEndian: id.slot)
    for word in [id.attempt, id.epoch, id.source.value, id.target.value, run] {
      w.append(bigEndian: word)
    }
    switch body {
    case .message(let message): Self.write(message, &w)
    case .log(let from, let through, let rows):
      w.append(bigEndian: from)
      w.append(bigEndian: through)
      w.append(bigEndian: UInt32(rows.count))
      for row in rows {
        w.append(bigEndian: row.index)
        w.append(row.key)
        w.append(row.record == nil ? 0 : 1)
        w.append(bigEndian: UInt32(row.record?.count ?? 0))
        w.append(row.record ?? [])
      }
    case .rows(let seal, let page, let isLast, let rows):
      Self.write(seal, &w)
      w.append(bigEndian: page)
      w.append(isLast ? 1 : 0)
      w.append(bigEndian: UInt32(rows.count))
      for row in rows {
        w.append(row.table.rawValue)
        w.append(bigEndian: UInt32(row.row.key.count))
        w.append(bigEndian: UInt32(row.row.value.count))
        w.append(row.row.key)
        w.append(row.row.value)
      }
    }
    w.append(bigEndian: unsafe w.withUnsafeBytes { unsafe xxh3_128($0).low })
    return w.array
  }

  private var kind: UInt8 {
    switch body {
    case .message(.offer): 1
    case .message(.ready): 2
    case .message(.copied): 3
    case .message(.sealed): 4
    case .message(.complete): 5
    case .message(.handed): 6
    case .message(.opened): 7
    case .message(.stop): 8
    case .log: 9
    case .rows: 10
    }
  }

  private static func write(_ message: SlotMoveMessage, _ w: inout ByteWriter) {
    switch message {
    case .offer(let word), .ready(let word), .copied(let word), .handed(let word):
      w.append(bigEndian: word)
    case .sealed(let at, let seal):
      w.append(bigEndian: at)
      write(seal, &w)
    case .complete(let seal): write(seal, &w)
    case .opened, .stop: break
    }
  }

  static func write(_ seal: SlotSeal, _ w: inout ByteWriter) {
    w.append(bigEndian: seal.run)
    w.append(bigEndian: seal.count)
  }

  // MARK: in

  /// Everything is checked: a peer may be another version, or broken.
  package init(_ bytes: [UInt8]) throws(ReadError) {
    self = try readAll(bytes) { (whole) throws(ReadError) in
      guard whole.remaining > 8 else { throw .truncated }
      let body = try unsafe whole.take(whole.remaining - 8)
      guard try unsafe xxh3_128(body).low == whole.bigEndian(UInt64.self) else { throw .malformed }
      var r = unsafe ByteReader(body)
      let read = try SlotMoveCall(&r)
      guard r.atEnd else { throw .malformed }
      return read
    }
  }

  package init(id: SlotMoveID, run: UInt64, _ body: Body) {
    self.id = id
    self.run = run
    self.body = body
  }

  private init(_ r: inout ByteReader) throws(ReadError) {
    let kind = try r.byte()
    let slot = try r.bigEndian(UInt16.self)
    guard Int(slot) < 1 << Limits.slotBits else { throw .malformed }
    id = SlotMoveID(
      slot: slot, attempt: try r.bigEndian(), epoch: try r.bigEndian(),
      source: NodeID(try r.bigEndian()), target: NodeID(try r.bigEndian()))
    run = try r.bigEndian()
    switch kind {
    case 1: body = .message(.offer(head: try r.bigEndian()))
    case 2: body = .message(.ready(have: try r.bigEndian()))
    case 3: body = .message(.copied(upTo: try r.bigEndian()))
    case 4: body = .message(.sealed(at: try r.bigEndian(), seal: try Self.seal(&r)))
    case 5: body = .message(.complete(seal: try Self.seal(&r)))
    case 6: body = .message(.handed(revision: try r.bigEndian()))
    case 7: body = .message(.opened)
    case 8: body = .message(.stop)
    case 9: body = try Self.log(&r, slot)
    case 10: body = try Self.rows(&r, slot)
    default: throw .malformed
    }
  }

  static func seal(_ r: inout ByteReader) throws(ReadError) -> SlotSeal {
    SlotSeal(run: try r.bigEndian(), count: try r.bigEndian())
  }

  private static func log(_ r: inout ByteReader, _ slot: UInt16) throws(ReadError) -> Body {
    let (from, through) = (try r.bigEndian(UInt64.self), try r.bigEndian(UInt64.self))
    let count = Int(try r.bigEndian(UInt32.self))
    guard from > 0, from <= through, through < Limits.maxSequence, count <= r.remaining / 37 else {
      throw .malformed
    }
    let channels = SlotRange(.records, slot: slot)
    var rows: [LogRow] = []
    var last = from - 1
    for _ in 0..<count {
      let index = try r.bigEndian(UInt64.self)
      let key = try r.array(24)
      let has = try r.byte()
      let record = try r.array(Int(try r.bigEndian(UInt32.self)))
      // Only keys of this slot, each once and in order: a source may not write elsewhere.
      guard index > last, index <= through, channels.holds(key), has < 2, has == 1 || record.isEmpty
      else { throw .malformed }
      rows.append(LogRow(index: index, key: key, record: has == 1 ? record : nil))
      last = index
    }
    return .log(from: from, through: through, rows)
  }

  private static func rows(_ r: inout ByteReader, _ slot: UInt16) throws(ReadError) -> Body {
    let seal = try Self.seal(&r)
    let (page, flags) = (try r.bigEndian(UInt32.self), try r.byte())
    let count = Int(try r.bigEndian(UInt32.self))
    guard flags < 2, count <= r.remaining / 9 else { throw .malformed }
    let ranges = SlotRows.ranges(slot)
    var rows: [TableRow] = []
    for _ in 0..<count {
      guard let table = Table(rawValue: try r.byte()) else { throw .malformed }
      let (k, v) = (try r.bigEndian(UInt32.self), try r.bigEndian(UInt32.self))
      let key = try r.array(Int(k))
      let value = try r.array(Int(v))
      guard ranges.contains(where: { $0.table == table && $0.holds(key) }) else {
        throw .malformed
      }
      rows.append(TableRow(table: table, row: Row(key: key, value: value)))
    }
    return .rows(seal, page: page, isLast: flags == 1, rows)
  }
}

extension SlotRange {
  package func holds(_ key: [UInt8]) -> Bool {
    !key.lexicographicallyPrecedes(from) && key.lexicographicallyPrecedes(to)
  }
}

/// Reads all of some bytes.
func readAll<T>(
  _ bytes: [UInt8], _ body: (inout ByteReader) throws(ReadError) -> T
) throws(ReadError) -> T {
  let result = unsafe bytes.withUnsafeBytes { raw -> Result<T, ReadError> in
    do throws(ReadError) {
      var r = unsafe ByteReader(raw)
      let read = try body(&r)
      return r.atEnd ? .success(read) : .failure(.malformed)
    } catch {
      return .failure(error)
    }
  }
  return try result.get()
}
