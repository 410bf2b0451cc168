internal import Base
internal import CNghttp2
internal import Glibc
internal import Loop

// C callbacks capture nothing: the session comes as user data, the stream as stream user data, so that
// no table is searched per frame.

@inline(__always)
private func session(_ user: UnsafeMutableRawPointer?) -> Http2Session {
  Unmanaged<Http2Session>.fromOpaque(user.unsafelyUnwrapped).takeUnretainedValue()
}

@inline(__always)
private func stream(_ handle: OpaquePointer?, _ id: Int32) -> Http2Stream? {
  guard let raw = nghttp2_session_get_stream_user_data(handle, id) else { return nil }
  return Unmanaged<Http2Stream>.fromOpaque(raw).takeUnretainedValue()
}

private let endStream = UInt8(NGHTTP2_FLAG_END_STREAM.rawValue)

// On the data path nothing is retained: a session outlives its callbacks (its loop buries it at the end
// of the turn), and so does a stream that ends inside one (`endedStreams`).

@inline(__always)
private func borrowed(_ pointer: UnsafeMutableRawPointer) -> Unmanaged<Http2Stream> {
  Unmanaged<Http2Stream>.fromOpaque(pointer)
}

/// nghttp2 asks what a stream has to send; the bytes themselves follow in `sendCallback`.
let readCallback: nghttp2_data_source_read_callback = { handle, id, _, room, flags, source, _ in
  borrowed(source.unsafelyUnwrapped.pointee.ptr)._withUnsafeGuaranteedRef { s in
    let waiting = s.ring.bytes
    if waiting > 0 {
      flags.unsafelyUnwrapped.pointee |= UInt32(NGHTTP2_DATA_FLAG_NO_COPY.rawValue)
      if waiting <= room, s.isEnding, s.trailers == nil {
        flags.unsafelyUnwrapped.pointee |= UInt32(NGHTTP2_DATA_FLAG_EOF.rawValue)
      }
      s.promised = min(room, waiting)
      return s.promised
    }
    if s.isEnding {
      flags.unsafelyUnwrapped.pointee |= UInt32(NGHTTP2_DATA_FLAG_EOF.rawValue)
      if let trailers = s.trailers {
        flags.unsafelyUnwrapped.pointee |= UInt32(NGHTTP2_DATA_FLAG_NO_END_STREAM.rawValue)
        nghttp2_submit_trailer(handle, id, trailers.fields, trailers.count)
      }
      return 0
    }
    s.isDeferred = true
    return Int(NGHTTP2_ERR_DEFERRED.rawValue)
  }
}

private let sendCallback: nghttp2_send_data_callback = { _, _, frameHead, length, source, user in
  borrowed(source.unsafelyUnwrapped.pointee.ptr)._withUnsafeGuaranteedRef { s in
    s.dirt.unsafelyUnwrapped._withUnsafeGuaranteedRef { connection in
      // Full: nghttp2 keeps the frame and returns to `fill`.
      if connection.output.count >= Limits.connectionQueueBytes {
        return Int32(NGHTTP2_ERR_WOULDBLOCK.rawValue)
      }
      if s.ring.bytes < length { return Int32(NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE.rawValue) }
      let to = connection.output.reserve(9 &+ length)
      to.copyMemory(from: frameHead.unsafelyUnwrapped, byteCount: 9)
      s.ring.drain(length, into: to + 9)
      s.promised = 0
      connection.output.advance(9 &+ length)
      if s.drained == 0 { session(user).drainedStreams.append(s) }
      s.drained &+= length
      return 0
    }
  }
}

private let beginHeaders: nghttp2_on_begin_headers_callback = { _, frame, user in
  let head = frame.unsafelyUnwrapped.pointee
  if head.hd.type == NGHTTP2_HEADERS.rawValue, head.headers.cat == NGHTTP2_HCAT_REQUEST {
    let s = session(user)
    if !s.isServer || !s.connection.isOpen { return 0 }
    s.connection.readHeldSecrets = true
    s.begin(head.hd.stream_id)
  }
  return 0
}

private let onHeader: nghttp2_on_header_callback = {
  handle, frame, name, nameLength, value, length, _, user in
  if nameLength == 13, memcmp(name.unsafelyUnwrapped, "authorization", 13) == 0 {
    session(user).forgetFields()
  }
  let id = frame.unsafelyUnwrapped.pointee.hd.stream_id
  guard let raw = nghttp2_session_get_stream_user_data(handle, id) else { return 0 }
  borrowed(raw)._withUnsafeGuaranteedRef { s in
    if s.headersTooLarge { return }
    if s.incoming.count >= Limits.headerFields
      || s.incoming.listBytes &+ nameLength &+ length &+ 32 > Limits.headerListBytes
    {
      s.headersTooLarge = true
      s.incoming.removeAll()
      return
    }
    s.incoming.append(
      UnsafeRawBufferPointer(start: name, count: nameLength),
      UnsafeRawBufferPointer(start: value, count: length))
  }
  return 0
}

private let onFrame: nghttp2_on_frame_recv_callback = { handle, frame, user in
  let f = frame.unsafelyUnwrapped.pointee
  switch UInt32(f.hd.type) {
  case NGHTTP2_DATA.rawValue:
    if f.hd.flags & endStream != 0 {
      if let s = stream(handle, f.hd.stream_id) { receiveEnd(s) }
    } else if f.hd.length == 0 {
      countControl(session(user))
    }
  case NGHTTP2_HEADERS.rawValue:
    guard let s = stream(handle, f.hd.stream_id) else { return 0 }
    receiveHeaders(s, f.headers.cat)
    if f.hd.flags & endStream != 0 { receiveEnd(s) }
  case NGHTTP2_SETTINGS.rawValue:
    let s = session(user)
    countControl(s)
    if f.hd.flags & UInt8(NGHTTP2_FLAG_ACK.rawValue) == 0 { s.becameReady() }
  case NGHTTP2_PING.rawValue:
    let s = session(user)
    if f.hd.flags & UInt8(NGHTTP2_FLAG_ACK.rawValue) != 0 {
      s.receivePong()
    } else {
      countControl(s)
    }
  case NGHTTP2_PRIORITY.rawValue:
    countControl(session(user))
  case NGHTTP2_RST_STREAM.rawValue:
    countReset(session(user))
  default:
    break
  }
  return 0
}

private func receiveHeaders(_ s: Http2Stream, _ category: nghttp2_headers_category) {
  // An informational response (1xx) is not the response.
  if category == NGHTTP2_HCAT_RESPONSE || category == NGHTTP2_HCAT_HEADERS, !s.sawHeaders,
    s.incoming.withValue(of: ":status", { $0.first == UInt8(ascii: "1") }) == true
  {
    s.incoming.removeAll()
    return
  }
  let fields = s.incoming
  s.incoming.removeAll()
  if s.sawHeaders {
    s.receiveTrailers(fields)
  } else {
    s.sawHeaders = true
    s.receiveHeaders(fields)
  }
}

private func receiveEnd(_ s: Http2Stream) {
  if s.isRemoteEnded || !s.isOpen { return }
  s.isRemoteEnded = true
  s.receiveEnd()
}

private func countControl(_ s: Http2Session) {
  if !s.controls.take(s.loop.now.monotonic) { s.cut("control frames") }
}

private func countReset(_ s: Http2Session) {
  if s.isServer, !s.resets.take(s.loop.now.monotonic) { s.cut("resets") }
}

private let onData: nghttp2_on_data_chunk_recv_callback = { handle, _, id, data, length, user in
  guard let raw = nghttp2_session_get_stream_user_data(handle, id) else {
    nghttp2_session_consume(handle, id, length)
    return 0
  }
  borrowed(raw)._withUnsafeGuaranteedRef { s in
    s.unconsumed &+= length
    s.receiveData(UnsafeRawBufferPointer(start: data, count: length))
  }
  return 0
}

private let onClose: nghttp2_on_stream_close_callback = { handle, id, code, user in
  if let s = stream(handle, id) { session(user).end(s, Http2Error(code), transportLost: false) }
  return 0
}

private let onSent: nghttp2_on_frame_send_callback = { handle, frame, user in
  let f = frame.unsafelyUnwrapped.pointee
  if f.hd.type == NGHTTP2_HEADERS.rawValue {
    // The answer is complete and the client still sends: tell it to stop (RFC 9113 section 8.1).
    if f.hd.flags & endStream != 0, session(user).isServer,
      let s = stream(handle, f.hd.stream_id), !s.isRemoteEnded
    {
      nghttp2_submit_rst_stream(handle, 0, f.hd.stream_id, 0)
    }
  } else if f.hd.type == NGHTTP2_RST_STREAM.rawValue, f.rst_stream.error_code != 0 {
    // Resets a client provokes count like those it sends.
    countReset(session(user))
  }
  return 0
}

extension Http2Session {
  nonisolated(unsafe) static let callbacks: OpaquePointer = {
    var c: OpaquePointer!
    precondition(nghttp2_session_callbacks_new(&c) == 0, "no memory")
    nghttp2_session_callbacks_set_send_data_callback(c, sendCallback)
    nghttp2_session_callbacks_set_on_begin_headers_callback(c, beginHeaders)
    nghttp2_session_callbacks_set_on_header_callback(c, onHeader)
    nghttp2_session_callbacks_set_on_frame_recv_callback(c, onFrame)
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(c, onData)
    nghttp2_session_callbacks_set_on_stream_close_callback(c, onClose)
    nghttp2_session_callbacks_set_on_frame_send_callback(c, onSent)
    return c
  }()

  nonisolated(unsafe) static let options: OpaquePointer = {
    var o: OpaquePointer!
    precondition(nghttp2_option_new(&o) == 0, "no memory")
    // Bytes are given back when they are dealt with, so that a slow reader slows its sender.
    nghttp2_option_set_no_auto_window_update(o, 1)
    // Closed streams are of no use to us and would be kept for priorities.
    nghttp2_option_set_no_closed_streams(o, 1)
    nghttp2_option_set_max_outbound_ack(o, 1_000)
    nghttp2_option_set_max_settings(o, 32)
    nghttp2_option_set_max_continuations(o, 8)
    // Resets are counted here (Allowance), with a limit of our own.
    nghttp2_option_set_stream_reset_rate_limit(o, 1 << 20, 1 << 20)
    return o
  }()
}
