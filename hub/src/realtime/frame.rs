//! RFC 6455 frames: a decoder for what clients send, an encoder for what they get.
//!
//! The decoder takes bytes as they come and keeps nothing but the unfinished message, so an idle
//! connection holds no buffer. No extensions are negotiated: reserved bits are an error.

use bytes::{BufMut, Bytes, BytesMut};

use super::code::Disconnect;

const FIN: u8 = 0x80;
const RESERVED: u8 = 0x70;
const MASKED: u8 = 0x80;
/// Longest payload of a control frame. Bytes.
const CONTROL_BYTES_MAX: usize = 125;
/// Longest header of a client frame: two bytes, eight of length, four of mask.
const HEADER_BYTES_MAX: usize = 14;

const CONTINUATION: u8 = 0x0;
const TEXT: u8 = 0x1;
const BINARY: u8 = 0x2;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xA;

/// What a client sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Incoming {
    /// A whole text message.
    Text(String),
    /// To be answered with the same payload.
    Ping(Bytes),
    Pong,
    /// The peer closes; its code, if it gave one.
    Close(Option<u16>),
}

/// What the decoder is in the middle of.
#[derive(Clone, Copy, Debug)]
struct Payload {
    opcode: u8,
    is_final: bool,
    /// The mask, rotated to the next byte to come.
    mask: [u8; 4],
    remaining: usize,
}

/// Incremental decoder of client frames.
#[derive(Debug)]
pub(super) struct Decoder {
    bytes_max: usize,
    header: [u8; HEADER_BYTES_MAX],
    n_header: u8,
    payload: Option<Payload>,
    /// Between the first and the final frame of a text message.
    is_fragmented: bool,
    message: Vec<u8>,
    control: Vec<u8>,
}

impl Decoder {
    /// `bytes_max`: the longest message.
    pub(super) fn new(bytes_max: usize) -> Self {
        Self {
            bytes_max,
            header: [0; HEADER_BYTES_MAX],
            n_header: 0,
            payload: None,
            is_fragmented: false,
            message: Vec::new(),
            control: Vec::new(),
        }
    }

    /// Eats from `input` until something is complete. `None`: everything is eaten, more is needed.
    ///
    /// After an error the decoder is of no further use.
    pub(super) fn next(&mut self, input: &mut &[u8]) -> Result<Option<Incoming>, Disconnect> {
        loop {
            if self.payload.is_none() && !self.read_header(input)? {
                return Ok(None);
            }
            let Some(mut payload) = self.payload else {
                return Ok(None);
            };
            let n = payload.remaining.min(input.len());
            let (now, later) = input.split_at(n);
            *input = later;
            let is_control = payload.opcode >= CLOSE;
            let into = if is_control { &mut self.control } else { &mut self.message };
            append_unmasked(into, now, payload.mask);
            payload.mask.rotate_left(n % 4);
            payload.remaining -= n;
            if payload.remaining > 0 {
                self.payload = Some(payload);
                return Ok(None);
            }
            self.payload = None;
            if is_control {
                return self.finish_control(payload.opcode).map(Some);
            }
            if payload.is_final {
                self.is_fragmented = false;
                let text = String::from_utf8(std::mem::take(&mut self.message));
                return text.map(|text| Some(Incoming::Text(text))).map_err(|_| Disconnect::WS_NOT_UTF8);
            }
            self.is_fragmented = true;
        }
    }

    /// True once a header is complete and checked.
    fn read_header(&mut self, input: &mut &[u8]) -> Result<bool, Disconnect> {
        loop {
            let have = usize::from(self.n_header);
            if have >= 2 && self.header[1] & MASKED == 0 {
                return Err(Disconnect::WS_PROTOCOL);
            }
            let need = header_len(&self.header[..have]);
            if have == need {
                break;
            }
            let n = (need - have).min(input.len());
            if n == 0 {
                return Ok(false);
            }
            self.header[have..have + n].copy_from_slice(&input[..n]);
            *input = &input[n..];
            // At most 14.
            self.n_header += u8::try_from(n).unwrap_or(u8::MAX);
        }
        let n_header = usize::from(std::mem::take(&mut self.n_header));
        self.payload = Some(self.check_header(n_header)?);
        Ok(true)
    }

    fn check_header(&mut self, n_header: usize) -> Result<Payload, Disconnect> {
        let header = &self.header[..n_header];
        let (opcode, is_final) = (header[0] & 0x0F, header[0] & FIN != 0);
        if header[0] & RESERVED != 0 {
            return Err(Disconnect::WS_PROTOCOL);
        }
        let length = match header[1] & 0x7F {
            126 => {
                let length = u64::from(u16::from_be_bytes([header[2], header[3]]));
                if length < 126 {
                    return Err(Disconnect::WS_PROTOCOL);
                } else {
                    length
                }
            }
            127 => {
                let mut bytes = [0; 8];
                bytes.copy_from_slice(&header[2..10]);
                let length = u64::from_be_bytes(bytes);
                if length < 0x1_0000 || length >> 63 == 1 {
                    return Err(Disconnect::WS_PROTOCOL);
                } else {
                    length
                }
            }
            short => u64::from(short),
        };
        let length = usize::try_from(length).map_err(|_| Disconnect::WS_TOO_BIG)?;
        match opcode {
            TEXT | CONTINUATION if (opcode == CONTINUATION) != self.is_fragmented => {
                return Err(Disconnect::WS_PROTOCOL);
            }
            TEXT | CONTINUATION => {
                if length > self.bytes_max - self.message.len() {
                    return Err(Disconnect::WS_TOO_BIG);
                }
                // A client that announces much gets the memory only as it sends.
                self.message.reserve(length.min(4_096));
            }
            BINARY => return Err(Disconnect::INAPPROPRIATE_PROTOCOL),
            CLOSE | PING | PONG if is_final && length <= CONTROL_BYTES_MAX => {}
            _ => return Err(Disconnect::WS_PROTOCOL),
        }
        let mut mask = [0; 4];
        mask.copy_from_slice(&header[n_header - 4..]);
        Ok(Payload { opcode, is_final, mask, remaining: length })
    }

    fn finish_control(&mut self, opcode: u8) -> Result<Incoming, Disconnect> {
        let payload = std::mem::take(&mut self.control);
        match (opcode, payload.as_slice()) {
            (PING, _) => Ok(Incoming::Ping(payload.into())),
            (CLOSE, []) => Ok(Incoming::Close(None)),
            (CLOSE, [_]) => Err(Disconnect::WS_PROTOCOL),
            (CLOSE, [high, low, reason @ ..]) => {
                let code = u16::from_be_bytes([*high, *low]);
                if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
                    return Err(Disconnect::WS_PROTOCOL);
                }
                if std::str::from_utf8(reason).is_err() {
                    return Err(Disconnect::WS_NOT_UTF8);
                }
                Ok(Incoming::Close(Some(code)))
            }
            _ => Ok(Incoming::Pong),
        }
    }
}

/// Length of the header that begins like this.
fn header_len(begin: &[u8]) -> usize {
    match begin.get(1).map(|second| second & 0x7F) {
        None => 2,
        Some(126) => 8,
        Some(127) => 14,
        Some(_) => 6,
    }
}

fn append_unmasked(into: &mut Vec<u8>, masked: &[u8], mask: [u8; 4]) {
    let start = into.len();
    into.extend_from_slice(masked);
    let wide = u64::from(u32::from_ne_bytes(mask));
    let wide = wide | wide << 32;
    let mut chunks = into[start..].chunks_exact_mut(8);
    for chunk in &mut chunks {
        let mut eight = [0; 8];
        eight.copy_from_slice(chunk);
        chunk.copy_from_slice(&(u64::from_ne_bytes(eight) ^ wide).to_ne_bytes());
    }
    for (index, byte) in chunks.into_remainder().iter_mut().enumerate() {
        *byte ^= mask[index % 4];
    }
}

/// A whole text frame. The parts are the payload.
pub(super) fn text_frame(parts: &[&[u8]]) -> Bytes {
    frame(TEXT, parts)
}

pub(super) fn pong_frame(payload: &[u8]) -> Bytes {
    frame(PONG, &[payload])
}

/// `None` echoes a close without a code.
pub(super) fn close_frame(why: Option<(u16, &str)>) -> Bytes {
    match why {
        None => frame(CLOSE, &[]),
        Some((code, reason)) => frame(CLOSE, &[&code.to_be_bytes(), reason.as_bytes()]),
    }
}

fn frame(opcode: u8, parts: &[&[u8]]) -> Bytes {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let mut bytes = BytesMut::with_capacity(length + 10);
    bytes.put_u8(FIN | opcode);
    match (u8::try_from(length), u16::try_from(length)) {
        (Ok(short @ 0..=125), _) => bytes.put_u8(short),
        (_, Ok(medium)) => {
            bytes.put_u8(126);
            bytes.put_u16(medium);
        }
        _ => {
            bytes.put_u8(127);
            bytes.put_u64(length as u64);
        }
    }
    for part in parts {
        bytes.put_slice(part);
    }
    bytes.freeze()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A client frame, masked.
    pub(in crate::realtime) fn masked(first: u8, payload: &[u8], mask: [u8; 4]) -> Vec<u8> {
        let mut bytes = vec![first];
        match payload.len() {
            short @ 0..=125 => bytes.push(MASKED | short as u8),
            medium @ 126..=0xFFFF => {
                bytes.push(MASKED | 126);
                bytes.extend((medium as u16).to_be_bytes());
            }
            long => {
                bytes.push(MASKED | 127);
                bytes.extend((long as u64).to_be_bytes());
            }
        }
        bytes.extend(mask);
        bytes.extend(payload.iter().enumerate().map(|(index, byte)| byte ^ mask[index % 4]));
        bytes
    }

    fn decode_all(decoder: &mut Decoder, mut input: &[u8]) -> Result<Vec<Incoming>, Disconnect> {
        let mut seen = Vec::new();
        while let Some(incoming) = decoder.next(&mut input)? {
            seen.push(incoming);
        }
        assert!(input.is_empty(), "everything is eaten");
        Ok(seen)
    }

    fn decode(input: &[u8]) -> Result<Vec<Incoming>, Disconnect> {
        decode_all(&mut Decoder::new(1_000), input)
    }

    const MASK: [u8; 4] = [1, 2, 3, 4];

    #[test]
    fn fragments_are_joined_and_controls_may_come_between() {
        let mut bytes = masked(TEXT, "届".as_bytes(), MASK);
        bytes.extend(masked(FIN | PING, b"x", MASK));
        bytes.extend(masked(CONTINUATION, b"", MASK));
        bytes.extend(masked(FIN | CONTINUATION, "け".as_bytes(), MASK));
        bytes.extend(masked(FIN | CLOSE, &[0x03, 0xE8, b'b'], MASK));
        let expected =
            [Incoming::Ping(Bytes::from_static(b"x")), Incoming::Text("届け".to_owned()), Incoming::Close(Some(1000))];
        assert_eq!(decode(&bytes), Ok(expected.to_vec()));
    }

    #[test]
    fn violations_have_their_codes() {
        let cases: &[(&str, Vec<u8>, Disconnect)] = &[
            ("not masked", vec![FIN | TEXT, 1, b'a'], Disconnect::WS_PROTOCOL),
            ("reserved bit", masked(FIN | 0x40 | TEXT, b"a", MASK), Disconnect::WS_PROTOCOL),
            ("reserved opcode", masked(FIN | 0x3, b"", MASK), Disconnect::WS_PROTOCOL),
            ("reserved control", masked(FIN | 0xB, b"", MASK), Disconnect::WS_PROTOCOL),
            ("binary", masked(FIN | BINARY, b"", MASK), Disconnect::INAPPROPRIATE_PROTOCOL),
            ("continuation of nothing", masked(FIN | CONTINUATION, b"", MASK), Disconnect::WS_PROTOCOL),
            ("fragmented control", masked(PING, b"", MASK), Disconnect::WS_PROTOCOL),
            ("long control", masked(FIN | PING, &[0; 126], MASK), Disconnect::WS_PROTOCOL),
            ("one byte of close", masked(FIN | CLOSE, &[3], MASK), Disconnect::WS_PROTOCOL),
            ("close code 1005", masked(FIN | CLOSE, &[0x03, 0xED], MASK), Disconnect::WS_PROTOCOL),
            ("close reason not utf-8", masked(FIN | CLOSE, &[0x03, 0xE8, 0xFF], MASK), Disconnect::WS_NOT_UTF8),
            ("text not utf-8", masked(FIN | TEXT, &[0xFF], MASK), Disconnect::WS_NOT_UTF8),
            ("too big", masked(FIN | TEXT, &[b'a'; 1_001], MASK), Disconnect::WS_TOO_BIG),
            ("length not minimal", vec![FIN | TEXT, MASKED | 126, 0, 5, 0, 0, 0, 0], Disconnect::WS_PROTOCOL),
            (
                "length beyond everything",
                {
                    let mut bytes = vec![FIN | TEXT, MASKED | 127];
                    bytes.extend([0x7F, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0]);
                    bytes
                },
                Disconnect::WS_TOO_BIG,
            ),
        ];
        for (name, bytes, expected) in cases {
            assert_eq!(decode(bytes), Err(*expected), "{name}");
        }
        let mut second_text = masked(TEXT, b"a", MASK);
        second_text.extend(masked(FIN | TEXT, b"b", MASK));
        assert_eq!(decode(&second_text), Err(Disconnect::WS_PROTOCOL), "text within text");
        let mut grown = masked(TEXT, &[b'a'; 600], MASK);
        grown.extend(masked(FIN | CONTINUATION, &[b'a'; 600], MASK));
        assert_eq!(decode(&grown), Err(Disconnect::WS_TOO_BIG), "the sum of fragments counts");
    }

    #[test]
    fn an_idle_decoder_holds_no_buffer() {
        let mut decoder = Decoder::new(100_000);
        let bytes = masked(FIN | TEXT, &[b'a'; 90_000], MASK);
        assert_eq!(decode_all(&mut decoder, &bytes).unwrap().len(), 1);
        assert_eq!((decoder.message.capacity(), decoder.control.capacity()), (0, 0));
    }

    #[test]
    fn server_frames_have_the_three_lengths() {
        for (length, header) in [(5, 2), (125, 2), (126, 4), (65_535, 4), (65_536, 10)] {
            let payload = vec![b'x'; length];
            let frame = text_frame(&[&payload[..2], &payload[2..]]);
            assert_eq!(frame.len(), header + length);
            assert_eq!(frame[0], FIN | TEXT);
            assert_eq!(&frame[header..], payload);
        }
        assert_eq!(&close_frame(Some((3001, "bye")))[..], [0x88, 5, 0x0B, 0xB9, b'b', b'y', b'e']);
    }

    prop_compose! {
        fn messages()(texts in proptest::collection::vec(("\\PC{0,40}", any::<[u8; 4]>(), 1..4usize), 1..6)) -> (Vec<String>, Vec<u8>) {
            let mut bytes = Vec::new();
            for (text, mask, n_parts) in &texts {
                let raw = text.as_bytes();
                let size = raw.len().div_ceil(*n_parts).max(1);
                let parts: Vec<&[u8]> = if raw.is_empty() { vec![raw] } else { raw.chunks(size).collect() };
                for (index, part) in parts.iter().enumerate() {
                    let opcode = if index == 0 { TEXT } else { CONTINUATION };
                    let fin = if index + 1 == parts.len() { FIN } else { 0 };
                    bytes.extend(masked(fin | opcode, part, *mask));
                }
            }
            (texts.into_iter().map(|(text, _, _)| text).collect(), bytes)
        }
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same_messages((texts, bytes) in messages(), cuts in proptest::collection::vec(1..9usize, 1..50)) {
            let mut decoder = Decoder::new(1_000);
            let mut seen = Vec::new();
            let mut rest = bytes.as_slice();
            for cut in cuts.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (now, later) = rest.split_at((*cut).min(rest.len()));
                seen.extend(decode_all(&mut decoder, now).unwrap());
                rest = later;
            }
            let expected: Vec<_> = texts.into_iter().map(Incoming::Text).collect();
            prop_assert_eq!(seen, expected);
        }

        #[test]
        fn garbage_never_panics_nor_outgrows_its_limit(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let mut decoder = Decoder::new(64);
            let mut input = bytes.as_slice();
            while let Ok(Some(_)) = decoder.next(&mut input) {}
            prop_assert!(decoder.message.len() <= 64 && decoder.control.len() <= CONTROL_BYTES_MAX);
        }
    }
}
