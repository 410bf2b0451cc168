import Base

/// Who may not open a stream although a JWT of theirs may still be in date.
struct EndedPrincipals: Sendable {
  var keys: Set<RecordID> = []
  var tenants: Set<TenantID> = []

  func contains(_ principal: Principal) -> Bool {
    keys.contains(principal.key) || tenants.contains(principal.tenant)
  }
}

/// Counted on one loop, read by the scrape through the loop.
struct ShardCounters: Sendable {
  var published = 0
  var publishedBytes = 0
  var delivered = 0
  var deliveredBytes = 0
  var answersAccepted = 0
  var answersRefused = 0
  var commitsRefused = 0
  var generations = 0
  var withoutRight = 0
  var coverFrames = 0
  var slowSubscribers = 0
  var dropped = 0
  var damaged = 0
  var streamsOpened = 0
  var streamsRefused = 0

  static func + (a: ShardCounters, b: ShardCounters) -> ShardCounters {
    var sum = a
    sum.published += b.published
    sum.publishedBytes += b.publishedBytes
    sum.delivered += b.delivered
    sum.deliveredBytes += b.deliveredBytes
    sum.answersAccepted += b.answersAccepted
    sum.answersRefused += b.answersRefused
    sum.commitsRefused += b.commitsRefused
    sum.generations += b.generations
    sum.withoutRight += b.withoutRight
    sum.coverFrames += b.coverFrames
    sum.slowSubscribers += b.slowSubscribers
    sum.dropped += b.dropped
    sum.damaged += b.damaged
    sum.streamsOpened += b.streamsOpened
    sum.streamsRefused += b.streamsRefused
    return sum
  }
}
