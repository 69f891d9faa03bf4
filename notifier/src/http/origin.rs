//! Scheme, host and port of a URL.

use std::{fmt, sync::Arc};

use http::uri::{Authority, PathAndQuery, Scheme, Uri};

/// A text that is no absolute `http` or `https` URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an absolute http or https URL")]
pub struct BadUrl;

/// Where connections go: scheme, host and port. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Origin(Arc<Parts>);

#[derive(Debug, PartialEq, Eq, Hash)]
struct Parts {
    scheme: Scheme,
    authority: Authority,
    port: u16,
}

impl Origin {
    /// The origin of a URL, and the rest of it.
    pub(crate) fn split(url: &str) -> Result<(Self, PathAndQuery), BadUrl> {
        let parts = url.parse::<Uri>().map_err(|_| BadUrl)?.into_parts();
        let (Some(scheme), Some(authority)) = (parts.scheme, parts.authority) else { return Err(BadUrl) };
        let default = match scheme.as_str() {
            "https" => 443,
            "http" => 80,
            _ => return Err(BadUrl),
        };
        // User information would make two names of one host, and nobody needs it here.
        if authority.host().is_empty() || authority.as_str().contains('@') {
            return Err(BadUrl);
        }
        let port = match authority.port_u16() {
            Some(port) => port,
            None if authority.as_str() == authority.host() => default,
            // There is something after the host, and it is no port.
            None => return Err(BadUrl),
        };
        let path = parts.path_and_query.unwrap_or_else(|| PathAndQuery::from_static("/"));
        Ok((Self(Arc::new(Parts { scheme, authority, port })), path))
    }

    pub(crate) fn is_https(&self) -> bool {
        self.0.scheme == Scheme::HTTPS
    }

    /// Host without the brackets of an IPv6 address.
    pub(crate) fn host(&self) -> &str {
        self.0.authority.host().trim_start_matches('[').trim_end_matches(']')
    }

    pub(crate) fn port(&self) -> u16 {
        self.0.port
    }

    pub(crate) fn authority(&self) -> &str {
        self.0.authority.as_str()
    }

    /// The URL of a path of this origin.
    pub(crate) fn uri(&self, path: PathAndQuery) -> Uri {
        let mut parts = http::uri::Parts::default();
        parts.scheme = Some(self.0.scheme.clone());
        parts.authority = Some(self.0.authority.clone());
        parts.path_and_query = Some(path);
        // Scheme, authority and path are all there: from_parts has nothing to refuse.
        Uri::from_parts(parts).unwrap_or_default()
    }
}

impl fmt::Display for Origin {
    /// As in a browser's `origin`: the port only where it is not the scheme's own.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.0.scheme, self.0.authority.host().to_ascii_lowercase())?;
        match (self.is_https(), self.0.port) {
            (true, 443) | (false, 80) => Ok(()),
            (_, port) => write!(f, ":{port}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_named_as_browsers_do() {
        for (url, origin, path) in [
            ("https://push.example.com/a/b?c=d", "https://push.example.com", "/a/b?c=d"),
            ("https://Push.Example.com:443/", "https://push.example.com", "/"),
            ("https://push.example.com:8443/x", "https://push.example.com:8443", "/x"),
            ("http://[::1]:80/x", "http://[::1]", "/x"),
        ] {
            let (found, rest) = Origin::split(url).unwrap();
            assert_eq!((found.to_string().as_str(), rest.as_str()), (origin, path), "{url}");
        }
    }

    #[test]
    fn what_is_no_web_address_is_refused() {
        for url in
            ["", "/relative", "ftp://example.com/", "https://", "https://user@example.com/", "https://a:b/", "x y"]
        {
            assert_eq!(Origin::split(url).err(), Some(BadUrl), "{url}");
        }
    }
}
