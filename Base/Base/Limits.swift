/// Every bound of the node: unit, reason, and what happens when it is hit. Settings may lower or raise
/// those marked "default"; the rest are part of the format or protect the process.
public enum Limits {
  // MARK: names
  /// UTF-8 bytes of a channel name; longer names are refused (`bad_channel_name`).
  public static let channelNameBytes = 256
  /// Slots are the top bits of a channel or tenant id: 4,096.
  public static let slotBits = 12

  // MARK: messages
  /// Bytes of one gRPC message in either direction: tonic's default. Larger: RESOURCE_EXHAUSTED.
  public static let messageBytes = 4 << 20
  /// Levels of embedded messages a decoder follows, as other protobuf runtimes do; deeper: refused.
  public static let protoDepth = 100
  /// Bytes appended to a payload for a Skytale subscriber: the sequence, u64 big-endian.
  public static let suffixBytes = 8

  // MARK: HTTP
  /// Bytes of an HTTP/1.1 request head; more: 431 and close.
  public static let http1HeadBytes = 16 << 10
  /// Header fields of one request; more: 431 and close.
  public static let headerFields = 100
  /// Bytes of an HTTP request body on the token API; more: 413 and close.
  public static let httpBodyBytes = 1 << 20
  /// Seconds to receive a whole request head or TLS handshake; then the connection is cut.
  public static let headTimeoutSeconds = 10
  /// Seconds an idle keep-alive HTTP/1.1 connection is kept.
  public static let idleHttpSeconds = 60
  /// Header list of one HTTP/2 request in bytes (SETTINGS_MAX_HEADER_LIST_SIZE).
  public static let headerListBytes = 16 << 10
  /// Bytes of a `grpc-message` before it is percent-encoded (at most three times as long then); the rest is cut off, so
  /// that the trailers stay below what a client takes (`headerListBytes` here, 16 KiB in most).
  public static let grpcMessageBytes = 4 << 10
  /// Connections one listener holds open; further ones are closed at once and counted.
  public static let connectionsPerListener = 50_000
  /// Streams one HTTP/2 connection may hold open.
  public static let streamsPerConnection = 1_000
  /// Stream resets a client may cause in a second before the connection is cut (rapid reset).
  public static let resetsPerSecond = 200
  /// Seconds between server keepalive PINGs on an idle HTTP/2 connection, and how long to wait for the answer.
  public static let keepaliveSeconds = 60
  public static let keepaliveTimeoutSeconds = 20
  /// Seconds from SIGTERM or GOAWAY to the end of the last stream.
  public static let drainSeconds = 8

  // MARK: flow
  /// HTTP/2 windows we grant: bytes per stream and per connection.
  public static let streamWindowBytes = 1 << 20
  public static let connectionWindowBytes = 4 << 20
  /// Bytes queued on a connection before its streams stop being filled.
  public static let connectionQueueBytes = 256 << 10
  /// Bytes one shard may have on the way to one session before it must ask for more (credit).
  public static let sessionCreditBytes = 512 << 10
  /// Bytes of recent messages a channel keeps in memory for its cursors (default); beyond: the archive.
  public static let channelTailBytes = 1 << 20
  /// Bytes of tails of one shard in all; over it the least recently used channels drop theirs.
  public static let shardTailBytes = 256 << 20
  /// Bytes of one read from the archive for a cursor.
  public static let archiveReadBytes = 256 << 10
  /// Bytes queued for a subscriber of an unarchived channel; beyond: disconnect.
  public static let unarchivedQueueBytes = 4 << 20
  /// Bytes of publishes a shard holds while the disk is slow; beyond, publishers are paused.
  public static let shardPendingBytes = 64 << 20
  /// Bytes of publishes one stream may have in hand; beyond, the stream is paused.
  public static let sessionPendingBytes = 2 << 20
  /// Seconds publishes are held for disk trouble before the stream ends with UNAVAILABLE.
  public static let publishHoldSeconds = 10
  /// Seconds a subscriber may take no byte before it is disconnected (default; `stall_timeout`).
  public static let stallSeconds = 600

  /// Bytes of answers that may wait for a stream's peer; more: nothing is read from it until they have left.
  public static let replyBytes = 256 << 10
  /// Event loops of a node, each with a shard: a stream keeps a bit for every one in a word.
  public static let loops = 55
  /// Connections in a row that share a loop while it is not busy: what few apps send each other then crosses no thread.
  public static let loopBlock = 16

  // MARK: SLIM
  /// Names one stream may be subscribed to; more: its Subscribe is acknowledged as failed.
  public static let slimNamesPerSession = 16_384
  /// Names with subscribers on one loop; more: as above.
  public static let slimNames = 4_000_000
  /// Subscriptions of one stream to the same name.
  public static let slimReferences = 1_024
  /// Bytes that may wait in one SLIM stream's queue; more: `slim.overflow` says what goes.
  public static let slimQueueBytes = 8 << 20
  /// The same for all SLIM streams of a loop together: beyond half of it each may hold an eighth, beyond it a 128th.
  public static let slimQueuesBytes = 1 << 30
  /// Seconds a stream may take no byte while the queues of its loop hold half of `slimQueuesBytes`: then it ends, if it
  /// holds more than each may by then.
  public static let slimStalledSeconds = 10
  /// Bytes one loop may have on their way to another; more: the publishers wait for it.
  public static let slimMailBytes = 32 << 20
  /// The same from all loops to another node, before its link has taken them: less than the link's queue has room for
  /// once it calls itself crowded.
  public static let slimLinkBytes = 16 << 20
  /// Names that one message to another node tells of; more: another message.
  public static let slimInterestNames = 1_000
  /// Milliseconds a Subscribe waits for other nodes to have heard of it; longer: it is acknowledged without them.
  public static let slimSyncMilliseconds: Int64 = 2_000
  /// What a SLIM app gets again when it subscribes (defaults; `slim.replay`, `slim.replay_window`).
  public static let slimReplayMessages = 100
  public static let slimReplaySeconds = 30
  /// Bytes of a SLIM stream's publishes that wait for others of it to be written; more: the stream is paused.
  public static let slimHeldBytes = 1 << 20
  /// What a loop keeps of publishes to names without a subscriber when its node has just followed another, and for how
  /// long: apps come back one after the other. Bytes; more is dropped, as it is later.
  public static let slimUnclaimedBytes = 4 << 20
  public static let slimReturnMilliseconds: Int64 = 2_000
  /// Seconds after which an archived SLIM channel that nobody publishes to is let go.
  public static let slimIdleSeconds = 120
  /// Archived SLIM channels a shard follows; more: those of a second ago are let go, too.
  public static let slimFollowed = 16_384
  /// Channels of other orgs whose grants one stream remembers; beyond, refusals are forgotten and asked for again,
  /// and a stream that uses so many gets no further one.
  public static let slimGrantsPerSession = 1_000
  /// Bytes of a Link's link_id.
  public static let slimLinkIDBytes = 256
  /// Bytes of a header that is kept for the messages after it; a longer one is judged anew each time.
  public static let slimKnownHeaderBytes = 16 << 10
  /// Header MACs remembered per stream and direction, for headers that do not change.
  public static let slimKnownMacs = 8

  // MARK: archive
  /// The last sequence a subscriber may start at: beyond any channel, far inside 64 bits.
  public static let maxSequence: UInt64 = 1 << 62
  /// Messages and payload bytes of one record: what one commit window may hold.
  public static let recordMessages = 1_024
  public static let recordBytes = 4 << 20
  /// Commits in flight per shard: one writes while the next gathers.
  public static let commitsInFlight = 2
  /// Winning commits kept in memory per channel; an older epoch is refused as stale.
  public static let commitsPerChannel = 65_536
  /// Recent (producer sequence -> sequence) answers kept per producer; older retries are looked up.
  public static let producerWindow = 4_096
  /// Producers kept in memory per channel.
  public static let producersPerChannel = 1_024
  /// Runs of producer answers kept in memory for a whole channel; over it the oldest are looked up instead.
  public static let producerRunsPerChannel = 65_536
  /// Channels a shard keeps loaded (default); over it the least recently used idle ones are forgotten.
  public static let loadedChannels = 65_536
  /// Bytes of one write set; what is over it goes into the next.
  public static let writeSetBytes = 16 << 20
  /// Seconds between looks at what a loaded channel should drop (default).
  public static let retentionSeconds = 10
  /// Milliseconds until a failed write is tried again.
  public static let writeRetryMilliseconds = 200
  /// Sequences that a lagging subscriber published itself, as runs kept for no-echo; over it the oldest are forgotten.
  public static let ownRunsPerSubscription = 4_096
  /// Free bytes on the data volume below which new messages are refused (default; `disk.min_free`).
  public static let diskMinFreeBytes = 256 << 20
  /// Free bytes on the data volume without which a store is not opened: RocksDB as Debian builds it ends the process
  /// when it cannot write a new file's first bytes.
  public static let storeOpenBytes = 256 << 10

  // MARK: store
  /// Bytes and write sets of one RocksDB batch; what is over waits for the next, microseconds later.
  public static let commitBatchBytes = 8 << 20
  public static let commitBatchSets = 4_096
  /// Bytes of write-ahead log before the oldest memtable is flushed: bounds the replay after kill -9.
  public static let walBytes = 256 << 20
  /// Bytes of the block cache (default; `store.cache`).
  public static let blockCacheBytes = 256 << 20
  /// Milliseconds between background syncs of what was only written, and of the synced mark. Seldom would cost more:
  /// the log's pages wait for it, and pages used again while they are warm are a third cheaper to fill.
  public static let syncEveryMilliseconds = 250
  /// Threads that read the archive for the loops.
  public static let readerThreads = 2
  /// Rows, and bytes of them, of a range that are deleted one by one; more: the range as a whole.
  public static let deleteRows = 4_096
  public static let deleteBytes = 4 << 20

  // MARK: replay
  /// Seconds back from now in which the oldest commit is looked for (default; `replay.window`).
  public static let replayWindowSeconds = 600
  /// Messages per pace interval, and the interval in milliseconds: the Skytale SDK drops what overflows 64.
  public static let replayBurst = 50
  public static let replayIntervalMilliseconds = 50
  /// Messages a replay may hold: from the oldest commit with at most this many behind it, at least from the newest commit.
  public static let replayMessages = 3_000

  // MARK: tokens
  public static let jwtSeconds = 300
  public static let jwtMaxSeconds = 30 * 86_400
  public static let inviteMaxUses = 10_000
  public static let inviteMaxSeconds = 30 * 86_400
  /// Bytes of a key package or welcome, decoded.
  public static let keyPackageBytes = 64 << 10
  public static let welcomeBytes = 512 << 10
  /// Join requests waiting per channel; more: `conflict`.
  public static let pendingPerChannel = 1_024
  /// Seconds a served join request is hidden from other polls, and seconds after the joiner's last poll until it expires.
  public static let pendingLeaseSeconds = 5
  public static let pendingExpirySeconds = 120
  /// Bytes of a JWT as text; longer ones are refused unread.
  public static let jwtBytes = 4 << 10
  /// UTF-8 bytes of the identity in a join request, and of an API key's label.
  public static let identityBytes = 1_024
  public static let keyLabelBytes = 128
  /// Seconds a completed or expired join request is still answered for; then it is forgotten.
  public static let joinKeptSeconds = 600
  /// Bytes of key packages and welcomes kept in memory for joins of one tenant's channels; more: `conflict`.
  public static let joinBytesPerTenant = 64 << 20
  /// Changes of accounts waiting for the disk; more: `unavailable`.
  public static let tokenQueue = 10_000
  /// HTTP calls of one key: a second, and at once. Polls of pending and welcome have the second budget.
  public static let callsPerSecond = 50
  public static let callsBurst = 100
  public static let pollsPerSecond = 1_000
  public static let pollsBurst = 2_000
  /// Failed authentications of one peer address: a second, and at once; more: `rate_limited` in place of `unauthorized`.
  public static let failuresPerSecond = 5
  public static let failuresBurst = 50
  /// Peer addresses whose failures are counted; over it the counts start anew.
  public static let failurePeers = 65_536
  /// Rows of one list answer, and days of one usage answer.
  public static let listRows = 1_000
  public static let usageDays = 366
  /// Keys, open invites and channels of one tenant; more: `conflict`.
  public static let keysPerTenant = 1_000
  public static let invitesPerTenant = 100_000
  public static let channelsPerTenant = 1_000_000

  // MARK: cluster
  /// Nodes in a ring map, and copies of a slot counting its owner's; maps with more are refused.
  public static let ringNodes = 1_024
  public static let ringReplicas = 7
  /// Bits of slot numbers that a ring map may have; `slotBits` is what nodes use.
  public static let ringSlotBits = 4...16
  /// UTF-8 bytes of a node's name, zone and region; longer ones are refused.
  public static let nodeLabelBytes = 63
  /// The largest weight of a node; 0 takes no slots.
  public static let nodeWeight = 10_000
  /// Earlier layouts kept for `ring history` and `ring revert`; the oldest goes.
  public static let ringHistory = 16
  /// Publishes, and bytes of them, held for a slot while it is handed over; more: `unavailable`.
  public static let moveHeldMessages = 4_096
  public static let moveHeldBytes = 8 << 20
  /// Records, and bytes of them, that a copy may lag behind for its slot to be sealed: what the stall has to carry. Twice
  /// as much for each `moveLagSeconds` that a slot is written to faster, up to `moveLagDoublings`.
  public static let moveSealLag: UInt64 = 256
  public static let moveSealBytes: UInt64 = 4 << 20
  public static let moveLagSeconds: Int64 = 5
  public static let moveLagDoublings: Int64 = 4
  /// Records of a slot asked of the host in one piece, and pieces on their way to the target.
  public static let moveChunkRecords: UInt64 = 1_024
  public static let moveChunksInFlight: UInt64 = 4
  /// Milliseconds a slot stays sealed without the target's word; then it is opened again, and tried later, for twice
  /// as long and once more: for less than publishes are held.
  public static let moveSealMilliseconds: Int64 = 2_000
  public static let moveSealDoublings: Int64 = 2
  /// Milliseconds between two tries of a step of a move.
  public static let moveRetryMilliseconds: Int64 = 500
  /// Slots that leave one node at once for one other; others wait. Those with no more bytes of records than
  /// `moveSmallBytes` count apart, and so do empty ones: they take words between nodes, and hardly anything else.
  public static let moveSlotsAtOnce = 16
  public static let moveSmallSlotsAtOnce = 32
  public static let moveEmptySlotsAtOnce = 128
  public static let moveSmallBytes: UInt64 = 64 << 10
  /// Slots that are looked into in one piece of work, for what is in them.
  public static let moveLookSlots = 256
  /// Slots whose seal failed and that wait for the next, whose places others take meanwhile; more: they keep them.
  public static let movePlacesGiven = 64
  /// Seconds without a slot that went to a node; those with little in them that are to go there then keep no empty slot
  /// from going elsewhere. Longer than a seal mostly lasts.
  public static let moveStuckSeconds: Int64 = 5
  /// Bytes of one page of a slot on its way, but for a record that is larger by itself.
  public static let movePageBytes = 256 << 10
  /// Bytes per second that all slots leaving a node are copied with while they are served: messages go first.
  public static let moveBytesPerSecond = 32 << 20
  /// Milliseconds until the answer to a page or a word of a hand-over; later ones count as lost.
  public static let moveCallMilliseconds: Int64 = 5_000
  /// Seconds until what was deleted of large slots is flushed from memory, once for all of that time.
  public static let moveFlushSeconds: Int64 = 2
  /// Milliseconds between two looks at what is due in hand-overs, and at how far the logs have grown.
  public static let moveTickMilliseconds: Int64 = 20

  // MARK: metadata
  /// Keys, and the bytes of one; a transaction beyond is refused. etcd has no such bounds on keys.
  public static let metadataKeys = 65_536
  public static let metadataKeyBytes = 512
  /// Operations and compares of one transaction (etcd: 128), and bytes that it writes (etcd: 1.5 MiB).
  public static let metadataOperations = 128
  public static let metadataWriteBytes = 1 << 20
  /// Bytes of entries in one answer; what is over it is asked for next.
  public static let metadataAnswerBytes = 3 << 20
  /// Changes remembered for watches, and bytes of them; older ones are forgotten.
  public static let metadataHistory = 10_000
  public static let metadataHistoryBytes = 32 << 20
  public static let metadataWatches = 10_000
  public static let metadataLeases = 10_000
  /// Seconds of the longest lease.
  public static let leaseSeconds = 86_400
  /// Requests that wait for the disk; more: `unavailable`.
  public static let metadataQueue = 1_024
  /// Milliseconds until a lease's end that could not be written is tried again.
  public static let metadataRetryMilliseconds: Int64 = 1_000

  // MARK: links
  /// Messages, and bytes of them, that wait for a node to confirm them; more: publishers wait, then `unavailable`.
  public static let linkQueueItems = 262_144
  public static let linkQueueBytes = 64 << 20
  /// Milliseconds a node may be out of reach before what waits for it ends with `unavailable`.
  public static let linkPatienceMilliseconds: Int64 = 10_000
  /// Milliseconds before a node is called again, the first time and at most; doubled each time.
  public static let linkFirstRetryMilliseconds: Int64 = 50
  public static let linkLastRetryMilliseconds: Int64 = 2_000
  /// Milliseconds for a connection between nodes to say who it is; longer: it is closed.
  public static let linkGreetingMilliseconds: Int64 = 5_000
  /// Nodes that one process has had links to, itself counted; more are not linked until it starts anew.
  public static let links = 125
  /// Channels that one node names to another; more: their link begins anew.
  public static let linkChannels = 4 << 20
  /// Sessions of one node that use channels of another; further ones end with `unavailable`.
  public static let linkSessions = 1 << 20
  /// Sessions that one frame with a message is for; more: a second frame.
  public static let linkDeliverSessions = 1_024
  /// Bytes of mail after which a frame with several is full; one that is longer goes alone.
  public static let linkBatchBytes = 48 << 10
  /// Answers that one word stands for; more: a second.
  public static let linkAnswers: UInt32 = 4_096
  /// Answers that nobody waits for, and mail, after which a node says that it has them; fewer wait for so many
  /// milliseconds.
  public static let linkQuietAnswers: UInt32 = 1_024
  public static let linkConfirmItems: UInt64 = 1_024
  public static let linkDueMilliseconds: Int64 = 5
  /// Bytes of a link's frame besides the message in it; a longer frame ends the connection.
  public static let linkHeadBytes = 64 << 10
  /// Bytes handed to a link's connection and not on the socket; what comes then waits, not encoded yet.
  public static let linkOutputBytes = 4 << 20
  /// Bytes of TLS records that a link's connection hands the socket at once.
  public static let linkSendBytes = 128 << 10
  /// Bytes of a link's HTTP/2 window: what may be under way in one round trip.
  public static let linkWindowBytes = 8 << 20
  /// Milliseconds without a word after which a link's connection is given up; every quarter of it something is said.
  public static let linkSilenceMilliseconds: Int64 = 8_000
  /// UTF-8 bytes of a fault's name, and of its detail, as nodes tell each other; longer ones break the link.
  public static let faultTextBytes = 4_096

  // MARK: calls between nodes
  /// Bytes of one request or answer; a larger one ends the call.
  public static let clusterCallBytes = 4 << 20
  /// Calls under way to one node; more: `unavailable` at once.
  public static let clusterCalls = 4_096
  /// Calls in a row that a node leaves unanswered until its connection is made anew.
  public static let clusterSilentCalls = 3
  /// Milliseconds a node asks the host of the metadata for news after, and between tries to join.
  public static let clusterSyncMilliseconds: Int64 = 1_000
  /// Milliseconds a call about the ring may take.
  public static let clusterCallMilliseconds: Int64 = 5_000
  /// Nodes of a cluster that are remembered, the forgotten ones counted; further ones are refused.
  public static let clusterRelays = 2_048
  /// Bytes of one node's record as others keep it; a larger one is refused.
  public static let clusterRelayBytes = 4_096

  // MARK: registry
  /// UTF-8 bytes of a peer_id, of a relay id, of names, skill ids and parts of tags, and of descriptions; longer:
  /// `too_large`.
  public static let registryPeerIDBytes = 256
  public static let relayIDBytes = 256
  public static let registryNameBytes = 256
  public static let registryTextBytes = 4_096
  /// Skills of one agent and tags of one skill; more: `too_large`.
  public static let registrySkills = 256
  public static let registryTags = 32
  /// Bytes of one registration as it is kept; more: `too_large`.
  public static let registryRecordBytes = 64 << 10
  /// Seconds an agent is kept after its last word (default; `registry.ttl`): upstream's.
  public static let registryTTLSeconds = 30
  /// Agents of this relay, and of all others together (defaults); more: `registry_full`, and refused and counted.
  public static let registryEntries = 1_000_000
  public static let registryForeignEntries = 4_000_000
  /// Tombstones kept; beyond, the oldest are forgotten early, and relays that missed them pull anew.
  public static let registryTombstones = 2_000_000
  /// Seconds a tombstone is kept: twice the longest partition expected (default; `registry.tombstone_life`).
  public static let tombstoneSeconds = 86_400
  /// Seconds after which an origin nobody has heard of is hidden (default; `federation.origin_timeout`).
  public static let originTimeoutSeconds = 90
  /// Relays that records may come from, and entries of one peer's vector. When it is reached, an origin without records
  /// gives way; when all have records, those of further ones are refused, counted and logged. Longer vectors: `too_large`.
  public static let registryOrigins = 4_096
  /// Origins without records that give way within a second; what would need more places waits for the next.
  public static let registryEvictions = 64
  /// How far ahead of this node's clock a counter may be; beyond: the record is refused, nobody could outbid it.
  public static let registryLeadSeconds = 86_400
  /// Seconds between marks in the store that this relay lives.
  public static let registryAliveSeconds = 60
  /// Entries ended or forgotten in one step of the clock; the rest waits for the next.
  public static let registryTickEntries = 20_000
  /// Agents of one answer: when none are asked for, and at most. Upstream's.
  public static let discoverDefault = 100
  public static let discoverMost = 1_000
  /// HPACK's dynamic table of a connection to the registry, in bytes as RFC 7541 counts: that of HTTP/2. A client
  /// that has more fields sends the oldest again.
  public static let registryHeaderTableBytes = 4_096
  /// Entries one discovery looks at; what is beyond is found by the next one, which goes on there.
  public static let discoverScan = 65_536
  /// Records and bytes of one page between relays; more follows on the next.
  public static let gossipPageRecords = 2_000
  public static let gossipPageBytes = 1 << 20
  /// Pages of one exchange; the rest comes with the next.
  public static let gossipPages = 2_000
  /// Seconds one call between relays may take; then the exchange is over.
  public static let gossipCallSeconds = 10
  /// Entries of one answer that an upstream relay is asked for, and of one push to it.
  public static let upstreamPage = 5_000
  public static let upstreamPushPage = 1_000
  /// Agents an upstream relay is shown: it holds no more of other relays.
  public static let upstreamEntries = 8_192

  // MARK: membership
  /// Members known, the dead counted; further ones are not taken in.
  public static let members = 1_024
  /// UTF-8 bytes of a member's address.
  public static let memberAddressBytes = 255
  /// Bytes of a membership packet: one datagram in any network. Longer ones are refused.
  public static let memberPacketBytes = 1_400
  /// Updates of one packet.
  public static let memberUpdates = 64
  /// The highest incarnation: what is above it was not counted, but made up.
  public static let memberIncarnation: UInt64 = 1 << 48
  public static let memberSeeds = 16
  /// The worst local health: intervals are stretched by one more than it.
  public static let memberHealth = 8
  /// Pings under way for others; more: not made.
  public static let memberErrands = 256
  /// Answers that a round-trip time is taken from.
  public static let roundTripSamples = 16
  /// Seconds a forgotten member is remembered, so that late word of it does not bring it back.
  public static let forgottenSeconds: Int64 = 86_400
  /// Bytes of publishes of one session that another node has not answered; more: the session is read no further.
  public static let farPendingBytes = 4 << 20
  /// Channels of other nodes with a number on one loop before numbers that nobody uses are taken back; eight times as many
  /// in use: further ones end their session.
  public static let farChannels = 1 << 18
  /// Channels of other nodes that one session uses; more: it ends with `unavailable`.
  public static let farChannelsPerSession = 16_384
  /// Bytes of credit for which another node is told at once; less is gathered for so many milliseconds.
  public static let farCreditBytes = 128 << 10
  public static let farCreditMilliseconds: Int64 = 10

  // MARK: certificates of a cluster
  /// Bytes of a file of certificates or of a key; longer ones are refused.
  public static let certificateFileBytes = 1 << 20
  /// Days that certificates are made for: a cluster's authority, a node's, and at most.
  public static let authorityDays = 3_650
  public static let certificateDays = 365
  public static let certificateMaximumDays = 36_500
  /// Seconds that a certificate holds before it is made, for nodes whose clocks are behind.
  public static let certificateBackdateSeconds: Int64 = 3_600
  /// Days before its end that a certificate is called old; a third of its life when that is shorter.
  public static let certificateWarningDays: Int64 = 30
  /// Names and addresses in one certificate, and bytes of one; more are refused.
  public static let certificateHosts = 64
  public static let certificateHostBytes = 253
}
