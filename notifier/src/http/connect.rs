//! TCP and TLS: whom we trust, and where we connect at all.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use rustls::{ClientConfig, RootCertStore, pki_types::ServerName};
use rustls_pki_types::{CertificateDer, pem::PemObject};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{Failure, Origin};

/// Extra trust roots that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RootsError {
    /// No PEM certificates.
    #[error("the extra trust roots are no PEM certificates")]
    NotPem,
    /// A certificate that cannot be a trust root.
    #[error("a certificate of the extra trust roots cannot be used")]
    Unusable,
}

/// Whose certificates are trusted: the web's (Mozilla's list) and those of `extra`, PEM text, empty for none.
#[derive(Debug, Clone)]
pub(crate) struct Roots(Arc<RootCertStore>);

impl Roots {
    pub(crate) fn new(extra: &str) -> Result<Self, RootsError> {
        let mut store = RootCertStore::from_iter(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        let mut n_extra = 0;
        for certificate in CertificateDer::pem_slice_iter(extra.as_bytes()) {
            store.add(certificate.map_err(|_| RootsError::NotPem)?).map_err(|_| RootsError::Unusable)?;
            n_extra += 1;
        }
        if n_extra == 0 && !extra.trim().is_empty() {
            return Err(RootsError::NotPem);
        }
        Ok(Self(Arc::new(store)))
    }
}

/// Which addresses a client may connect to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    /// Any: the origin comes from the configuration.
    Anywhere,
    /// Only https to public addresses: the origin comes from outside, and must not lead into our own network. The
    /// address is checked after the name is resolved, so that a name cannot point inside.
    PublicOnly,
}

/// A connection, and what was agreed on.
pub(super) struct Connected {
    pub(super) stream: Stream,
    pub(super) speaks_http2: bool,
}

pub(super) struct Connector {
    tls: TlsConnector,
    reach: Reach,
}

impl Connector {
    pub(super) fn new(roots: Roots, reach: Reach) -> Self {
        // Explicit, because other crates of the process turn on a second provider and rustls then refuses to guess.
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        // TLS 1.2 and 1.3 are both what ring offers: the builder cannot find them missing.
        let mut config =
            builder.expect("ring offers TLS 1.2 and 1.3").with_root_certificates(roots.0).with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Self { tls: TlsConnector::from(Arc::new(config)), reach }
    }

    pub(super) async fn connect(&self, origin: &Origin) -> Result<Connected, Failure> {
        if self.reach == Reach::PublicOnly && !origin.is_https() {
            return Err(Failure::NotSent(NOT_ALLOWED));
        }
        let tcp = self.tcp(origin).await?;
        if !origin.is_https() {
            return Ok(Connected { stream: Stream::Plain(tcp), speaks_http2: false });
        }
        let name = ServerName::try_from(origin.host().to_owned()).map_err(|_| Failure::NotSent("bad_host"))?;
        let tls = self.tls.connect(name, tcp).await.map_err(|error| {
            let distrust = error.get_ref().and_then(|cause| cause.downcast_ref::<rustls::Error>());
            match distrust {
                Some(rustls::Error::InvalidCertificate(_)) => Failure::NotSent("bad_certificate"),
                _ => Failure::NotSent("tls_failed"),
            }
        })?;
        let speaks_http2 = tls.get_ref().1.alpn_protocol() == Some(b"h2");
        Ok(Connected { stream: Stream::Tls(Box::new(tls)), speaks_http2 })
    }

    async fn tcp(&self, origin: &Origin) -> Result<TcpStream, Failure> {
        let found = tokio::net::lookup_host((origin.host(), origin.port()));
        let found = found.await.map_err(|_| Failure::NotSent("unknown_host"))?;
        let mut failure = Failure::NotSent("unknown_host");
        for address in found {
            if self.reach == Reach::PublicOnly && !is_public(address.ip()) {
                failure = Failure::NotSent(NOT_ALLOWED);
                continue;
            }
            match open(address).await {
                Ok(stream) => return Ok(stream),
                Err(_) => failure = Failure::NotSent("unreachable"),
            }
        }
        Err(failure)
    }
}

/// The origin is not one that this client connects to.
pub(crate) const NOT_ALLOWED: &str = "address_not_allowed";

async fn open(address: SocketAddr) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    // Writes are whole flights already; waiting to fill a segment would only delay them.
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Whether an address belongs to the public internet. Written out because the standard library's is unstable.
pub(super) fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => is_public_v4(v4),
        IpAddr::V6(v6) => match embedded_v4(v6) {
            Some(v4) => is_public_v4(v4),
            None => is_public_v6(v6),
        },
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let shared = a == 100 && (64..128).contains(&b);
    let protocols = (a, b, c) == (192, 0, 0);
    let benchmark = a == 198 && (18..20).contains(&b);
    let reserved = a == 0 || a >= 240;
    !(address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_multicast()
        || address.is_documentation()
        || shared
        || protocols
        || benchmark
        || reserved)
}

/// The IPv4 address that an IPv6 address stands for: mapped, translated (NAT64) or tunnelled (6to4).
fn embedded_v4(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let words = address.segments();
    let v4 = |high: u16, low: u16| Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
    match words {
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low] => Some(v4(high, low)),
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => Some(v4(high, low)),
        _ => None,
    }
}

/// Global unicast is 2000::/3; all else is loopback, local, multicast or reserved. Documentation lies inside.
fn is_public_v6(address: Ipv6Addr) -> bool {
    let [first, second, ..] = address.segments();
    first & 0xe000 == 0x2000 && !(first == 0x2001 && (second == 0xdb8 || second < 0x200)) && first != 0x3fff
}

/// A connection with or without TLS.
pub(super) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bytes),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_inside_are_told_from_public_ones() {
        for inside in [
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",
            "192.0.0.8",
            "198.18.0.1",
            "203.0.113.5",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "fe80::1",
            "fc00::1",
            "fd12::1",
            "ff02::1",
            "2001:db8::1",
            "::ffff:10.0.0.1",
            "64:ff9b::7f00:1",
            "2002:7f00:1::1",
            "2001::1",
        ] {
            assert!(!is_public(inside.parse().unwrap()), "{inside}");
        }
        for public in ["8.8.8.8", "142.250.196.106", "17.188.143.34", "2404:6800:4004:80c::200a", "::ffff:8.8.8.8"] {
            assert!(is_public(public.parse().unwrap()), "{public}");
        }
    }

    #[test]
    fn roots_must_be_certificates() {
        assert!(Roots::new("").is_ok());
        assert_eq!(Roots::new("nonsense").err(), Some(RootsError::NotPem));
    }
}
