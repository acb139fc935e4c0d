//! `api.base_url` and `api.proxy`: where the key may be sent.

use url::{Host, Url};

use super::error::Complaint;
use super::reader::Reader;
use super::sections::Proxy;
use super::units::text;

/// Reads both.
pub(super) fn read(read: &mut Reader) -> (Url, Option<Proxy>) {
    let base = read.read("api.base_url", constant("https://kling3api.com/"), Url::to_string, |entry| {
        base_url(text(&entry.value)?)
    });
    (base, read.or_off("api.proxy", Proxy::to_string, proxy))
}

/// The sandbox's: a placeholder that nothing answers at, since only who starts the sandbox knows its
/// port, and no proxy, since none leads back to this machine.
pub(super) fn of_sandbox(read: &mut Reader) -> (Url, Option<Proxy>) {
    read.fixed("api.base_url", "the sandbox's own".to_owned());
    read.fixed("api.proxy", "off".to_owned());
    (constant("http://127.0.0.1:9/"), None)
}

#[expect(clippy::expect_used, reason = "only constants come here, and every one of them is tested")]
fn constant(url: &'static str) -> Url {
    base_url(url).expect("a constant base URL is valid")
}

fn base_url(written: &str) -> Result<Url, Complaint> {
    const INSTEAD: &str = "write one such as \"https://kling3api.com\"";
    let url = Url::parse(written.trim());
    let mut url = url.map_err(|error| Complaint::new(format!("is not a URL ({error})"), INSTEAD))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(Complaint::new("carries a user name or password", INSTEAD).hiding_value());
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(Complaint::new("carries a query or a fragment", INSTEAD).hiding_value());
    }
    match url.scheme() {
        "https" => {}
        "http" if is_loopback(&url) => {}
        "http" => {
            return Err(Complaint::new(
                "would send the API key in the clear",
                "write https://; http is for loopback only",
            ));
        }
        _ => return Err(Complaint::new("is neither https nor http", INSTEAD)),
    }
    if !url.path().ends_with('/') {
        url.set_path(&format!("{}/", url.path()));
    }
    Ok(url)
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.to_canonical().is_loopback(),
        None => false,
    }
}

/// Whether the API itself is at an address that links are refused to otherwise.
pub(super) fn is_private(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback() || address.is_private() || address.is_link_local(),
        Some(Host::Ipv6(address)) => {
            is_loopback(url) || address.is_unique_local() || address.is_unicast_link_local()
        }
        Some(Host::Domain(_)) | None => is_loopback(url),
    }
}

fn proxy(written: &str) -> Result<Proxy, Complaint> {
    let url = Url::parse(written.trim()).ok();
    let url = url.filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    url.map(Proxy).ok_or_else(|| {
        let instead = "write one such as \"http://proxy.example:3128\", or \"off\"";
        Complaint::new("is not the URL of an HTTP proxy", instead).hiding_value()
    })
}
