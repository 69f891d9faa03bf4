//! Bodies as they come: plain, gzip or zstd, never larger in memory than agreed.

use std::{borrow::Cow, io::Read};

use flate2::read::MultiGzDecoder;

use crate::IngestError;

/// Memory that a zstd stream may ask for its window, as a power of two: 8 MiB, what every level of
/// the usual tools up to 19 needs.
const WINDOW_LOG_MAX: u32 = 23;

/// How a body is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    /// Not at all.
    Plain,
    /// RFC 1952.
    Gzip,
    /// RFC 8878.
    Zstd,
}

impl Coding {
    /// Of a `Content-Encoding`; `None` for one that is not known.
    pub fn of(content_encoding: &str) -> Option<Self> {
        match content_encoding.trim().to_ascii_lowercase().as_str() {
            "" | "identity" => Some(Self::Plain),
            "gzip" | "x-gzip" => Some(Self::Gzip),
            "zstd" => Some(Self::Zstd),
            _ => None,
        }
    }
}

/// The body without its compression. What would be longer than `bytes_max` is given up at that length,
/// however little was sent.
///
/// Errors: [`IngestError::TooLong`]; [`IngestError::NotABatch`] for what does not decompress.
pub fn decode(raw: &[u8], coding: Coding, bytes_max: usize) -> Result<Cow<'_, [u8]>, IngestError> {
    let too_long = || IngestError::TooLong { bytes_max };
    let mut decoded = Vec::new();
    let room = u64::try_from(bytes_max).unwrap_or(u64::MAX).saturating_add(1);
    let read = match coding {
        Coding::Plain => {
            return if raw.len() > bytes_max { Err(too_long()) } else { Ok(Cow::Borrowed(raw)) };
        }
        Coding::Gzip => MultiGzDecoder::new(raw).take(room).read_to_end(&mut decoded),
        Coding::Zstd => zstd::stream::read::Decoder::with_buffer(raw).and_then(|mut stream| {
            stream.window_log_max(WINDOW_LOG_MAX)?;
            stream.take(room).read_to_end(&mut decoded)
        }),
    };
    read.map_err(|error| IngestError::NotABatch { reason: format!("cannot be decompressed ({error})") })?;
    if decoded.len() > bytes_max { Err(too_long()) } else { Ok(Cow::Owned(decoded)) }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn zstd(bytes: &[u8]) -> Vec<u8> {
        zstd::stream::encode_all(bytes, 19).unwrap()
    }

    #[test]
    fn what_is_compressed_comes_out_again() {
        let text = "{\"event_id\":1}\n".repeat(1_000);
        for (coding, raw) in [
            (Coding::Plain, text.clone().into_bytes()),
            (Coding::Gzip, gzip(text.as_bytes())),
            (Coding::Zstd, zstd(text.as_bytes())),
        ] {
            assert_eq!(decode(&raw, coding, text.len()).unwrap(), text.as_bytes(), "{coding:?}");
            let refused = decode(&raw, coding, text.len() - 1);
            assert!(matches!(refused, Err(IngestError::TooLong { .. })), "{coding:?}");
        }
    }

    /// A few kilobytes that would become gigabytes cost no more than the limit.
    #[test]
    fn a_bomb_is_given_up_at_the_limit() {
        let zeros = vec![0; 64 << 20];
        for (coding, raw) in [(Coding::Gzip, gzip(&zeros)), (Coding::Zstd, zstd(&zeros))] {
            assert!(raw.len() < 100_000);
            assert!(matches!(decode(&raw, coding, 1 << 20), Err(IngestError::TooLong { .. })), "{coding:?}");
        }
    }

    #[test]
    fn what_is_cut_off_is_no_batch() {
        let text = "x".repeat(10_000);
        for (coding, raw) in [(Coding::Gzip, gzip(text.as_bytes())), (Coding::Zstd, zstd(text.as_bytes()))] {
            let cut = decode(&raw[..raw.len() - 3], coding, 1 << 20);
            assert!(matches!(cut, Err(IngestError::NotABatch { .. })), "{coding:?}");
        }
        assert!(decode(b"plain", Coding::Gzip, 100).is_err());
    }
}
