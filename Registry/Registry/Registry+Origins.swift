internal import Base

// Which relays have a place here. What records come from has one, and keeps it; the others give way.
extension Registry {
  /// nil: all places are taken by origins with records, or too many gave way within a second.
  mutating func originNumber(_ id: String, at now: Now) -> UInt32? {
    if let known = originNumbers[id] { return known }
    if id.isEmpty || id.utf8.count > Limits.relayIDBytes { return nil }
    if origins.count < settings.originCapacity { return append(id, at: now) }
    guard !isLoading else { return nil }
    return replaceNext(by: id, sparesFloors: false, at: now)
  }

  /// The number of an origin of which only is known that deletes have been forgotten; there must be room for it
  /// (`roomForFloors`). Nothing gives way to it but origins of which nothing has to be known.
  mutating func flooredNumber(_ id: String, at now: Now) -> UInt32? {
    if id.isEmpty || id.utf8.count > Limits.relayIDBytes { return nil }
    if origins.count < settings.originCapacity { return append(id, at: now) }
    return replaceNext(by: id, sparesFloors: true, at: now)
  }

  /// How many more origins without records may have forgotten deletes: three quarters of the places in all, so that
  /// whoever claims such origins cannot take those that records need. At 0 they make nobody stale: relays that hold
  /// different ones of them would wait for each other for ever. Should a record come back that way, its home ends it.
  var roomForFloors: Int {
    let most = settings.originCapacity - settings.originCapacity / 4
    if origins.count <= most { return most - origins.count + 1 }
    var count = 0
    for i in origins.indices where origins[i].floor > 0 && origins[i].isEmpty { count += 1 }
    return max(0, most - count)
  }

  /// The origin without records that was not heard of for the longest; those go last of which deletes have been
  /// forgotten, or not at all.
  private func nextToGo(sparesFloors: Bool) -> UInt32? {
    var found: Int?
    for i in origins.indices.dropFirst() where origins[i].isEmpty {
      if sparesFloors, origins[i].floor > 0 { continue }
      if found.map({ goes(i, before: $0) }) ?? true { found = i }
    }
    return found.map { UInt32($0) }
  }

  private func goes(_ a: Int, before b: Int) -> Bool {
    if (origins[a].floor > 0) != (origins[b].floor > 0) { return origins[b].floor > 0 }
    if origins[a].heardAt != origins[b].heardAt { return origins[a].heardAt < origins[b].heardAt }
    return origins[a].beat < origins[b].beat
  }

  private mutating func append(_ id: String, at now: Now) -> UInt32 {
    let number = UInt32(origins.count)
    origins.append(Origin(id, at: now.monotonic))
    originNumbers[id] = number
    return number
  }

  private mutating func replaceNext(
    by id: String, sparesFloors: Bool, at now: Now
  ) -> UInt32? {
    // Each looks at all origins.
    guard evictionsLeft > 0, let number = nextToGo(sparesFloors: sparesFloors) else { return nil }
    evictionsLeft -= 1
    counts.evicted += 1
    forget(number)
    origins[Int(number)] = Origin(id, at: now.monotonic)
    originNumbers[id] = number
    return number
  }

  /// Its row goes, too.
  private mutating func forget(_ number: UInt32) {
    let id = origins[Int(number)].id
    originNumbers[id] = nil
    dirtyOrigins.remove(number)
    writes.delete(.registry, key: Registry.key(ofOrigin: id))
  }

  /// Lets go of the last origins while they are silent and nothing is known of them that anybody could need.
  mutating func forgetStrangers() {
    while origins.count > 1, let last = origins.last, last.isHidden, last.isStranger {
      forget(UInt32(origins.count - 1))
      origins.removeLast()
    }
  }
}
