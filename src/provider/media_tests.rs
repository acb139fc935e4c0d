//! Downloads over real sockets, against a server that can misbehave in every way.

use super::super::raw_server::{End, RawServer, Reply};
use super::*;

const ETAG_A: &str = "\"a\"";

fn settings() -> MediaSettings {
    MediaSettings {
        // No test waits for these, so that none depends on the machine's speed.
        connect_timeout: Duration::from_secs(60),
        idle_timeout: Duration::from_secs(60),
        max_bytes: 1000,
        allow_private: true,
        proxy: None,
    }
}

fn media() -> Media {
    Media::new(&settings()).unwrap()
}

/// The rest of a file of twenty bytes.
fn resume() -> Resume {
    Resume { offset: 12, etag: ETAG_A.to_owned(), total: Some(20) }
}

/// Opens and reads to the end: where it began, and what came.
async fn fetch(media: &Media, url: &str, resume: Option<&Resume>) -> Result<(u64, Vec<u8>), FetchError> {
    let mut download = media.open(url, resume).await?;
    let mut bytes = Vec::new();
    while let Some(chunk) = download.chunk().await? {
        bytes.extend_from_slice(&chunk);
    }
    Ok((download.offset, bytes))
}

async fn trouble(reply: Reply) -> FetchError {
    let server = RawServer::start([reply]).await;
    fetch(&media(), &server.url("/v.mp4"), None).await.unwrap_err()
}

#[tokio::test]
async fn a_whole_file_is_asked_for_without_any_secret() {
    let headers = "Content-Type: video/mp4\r\nETag: \"a\"\r\n";
    let server = RawServer::start([Reply::http(200, headers, "twenty bytes of video")]).await;
    let link =
        server.url("/a%20b/v%2F.mp4?sig=A+B%2f=&x=1,2|3~&e=%E4").replace("http://", "http://user:secret@");
    let media = media();
    let mut download = media.open(&link, None).await.unwrap();
    assert_eq!((download.offset, download.total, download.etag.as_deref()), (0, Some(21), Some(ETAG_A)));
    assert_eq!(download.chunk().await.unwrap().unwrap(), "twenty bytes of video");
    assert_eq!(download.chunk().await.unwrap(), None);
    let request = server.requests().remove(0).to_ascii_lowercase();
    assert!(
        request.starts_with("get /a%20b/v%2f.mp4?sig=a+b%2f=&x=1,2|3~&e=%e4 http/1.1\r\n"),
        "byte for byte: {request}"
    );
    assert!(request.contains("accept-encoding: identity\r\n"));
    for absent in ["authorization", "cookie", "referer", "range", "secret"] {
        assert!(!request.contains(absent), "{absent} in {request}");
    }
}

#[tokio::test]
async fn the_rest_of_a_file_begins_where_it_was_asked_for() {
    let headers = "Content-Range: bytes 12-19/20\r\nETag: \"a\"\r\n";
    for headers in [headers, "Content-Range: bytes 12-19/20\r\n", "Content-Range: bytes 12-19/*\r\n"] {
        let rest = || Reply::http(206, headers, "the rest");
        let server = RawServer::start([rest(), rest()]).await;
        let got = fetch(&media(), &server.url("/v.mp4"), Some(&resume())).await.unwrap();
        assert_eq!(got, (12, b"the rest".to_vec()));
        let download = media().open(&server.url("/v.mp4"), Some(&resume())).await.unwrap();
        assert_eq!(download.etag.as_deref(), Some(ETAG_A), "good for the next resume, said again or not");
        let request = server.requests().remove(0).to_ascii_lowercase();
        assert!(
            request.contains("range: bytes=12-\r\n") && request.contains("if-range: \"a\"\r\n"),
            "{request}"
        );
    }
    // A piece of the rest: what comes next is asked for next time.
    let server = RawServer::start([Reply::http(206, "Content-Range: bytes 12-15/20\r\n", "the ")]).await;
    let error = fetch(&media(), &server.url("/v.mp4"), Some(&resume())).await.unwrap_err();
    assert_eq!(error.trouble, FetchTrouble::Interrupted);
    assert!(error.why.contains("16 of 20"), "{error}");
    // So is one that leaves out how long the whole is: that was announced before.
    let server = RawServer::start([Reply::http(206, "Content-Range: bytes 12-15/*\r\n", "the ")]).await;
    let error = fetch(&media(), &server.url("/v.mp4"), Some(&resume())).await.unwrap_err();
    assert!(error.why.contains("16 of 20"), "{error}");
}

#[tokio::test]
async fn anything_but_the_rest_begins_from_zero() {
    for headers in [
        "Content-Range: bytes 0-7/20\r\n",
        "Content-Range: bytes 11-18/20\r\n",
        "Content-Range: bytes 12-19/20\r\nETag: \"b\"\r\n",
        "Content-Range: bytes 12-19/20\r\nETag: W/\"a\"\r\n",
        "Content-Range: bytes 12-19/18\r\n",
        "Content-Range: bytes 12-19/21\r\n",
        "Content-Range: bytes 12-20/21\r\n",
        "Content-Range: bytes 12-18446744073709551615/*\r\n",
        "Content-Range: 12-19/20\r\n",
        "Content-Range: bytes */20\r\n",
        "",
    ] {
        let server =
            RawServer::start([Reply::http(206, headers, "the rest"), Reply::http(200, "", "all of it")])
                .await;
        let got = fetch(&media(), &server.url("/v.mp4"), Some(&resume())).await.unwrap();
        assert_eq!(got, (0, b"all of it".to_vec()), "{headers}");
        assert!(!server.requests()[1].to_ascii_lowercase().contains("range:"), "{headers}");
    }
    let server = RawServer::start([Reply::http(416, "", ""), Reply::http(200, "", "all of it")]).await;
    assert_eq!(fetch(&media(), &server.url("/"), Some(&resume())).await.unwrap().0, 0);
    // `If-Range` did not match, or `Range` is unknown there: one request is enough.
    let server = RawServer::start([Reply::http(200, "ETag: \"b\"\r\n", "all of it")]).await;
    assert_eq!(fetch(&media(), &server.url("/"), Some(&resume())).await.unwrap().0, 0);
    // Nothing says that the rest would be the same file's.
    for (offset, etag) in [(12, "W/\"a\""), (12, ""), (12, "a"), (12, "\""), (12, "\"a\n\""), (0, ETAG_A)] {
        let server = RawServer::start([Reply::http(200, "", "all of it")]).await;
        let resume = Resume { offset, etag: etag.to_owned(), total: None };
        assert_eq!(fetch(&media(), &server.url("/"), Some(&resume)).await.unwrap().0, 0, "{etag:?}");
        assert!(!server.requests()[0].to_ascii_lowercase().contains("range:"), "{etag:?}");
    }
}

#[tokio::test]
async fn only_a_strong_etag_is_kept() {
    for (header, kept) in
        [("ETag: W/\"a\"\r\n", None), ("ETag: a\r\n", None), ("ETag: \"a\"\r\n", Some(ETAG_A))]
    {
        let server = RawServer::start([Reply::http(200, header, "video")]).await;
        assert_eq!(media().open(&server.url("/"), None).await.unwrap().etag.as_deref(), kept, "{header}");
    }
}

#[tokio::test]
async fn a_cut_file_is_interrupted() {
    let length = "HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\nnot twenty";
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nvideo\r\n";
    for (bytes, end) in [
        (length, End::Close),
        (length, End::Reset),
        (chunked, End::Close),
        ("HTTP/1.1 2", End::Close),
        ("", End::Reset),
    ] {
        let error = trouble(Reply::raw(bytes, end)).await;
        assert_eq!((error.trouble, error.retry_after), (FetchTrouble::Interrupted, None), "{bytes}: {error}");
    }
    let error = fetch(&media(), "http://no-such-host.invalid/v.mp4?sig=1", None).await.unwrap_err();
    assert_eq!(error.trouble, FetchTrouble::Interrupted);
    assert!(!error.why.contains("sig"), "{error}");
}

#[tokio::test]
async fn a_stall_is_interrupted() {
    let media =
        Media::new(&MediaSettings { idle_timeout: Duration::from_millis(200), ..settings() }).unwrap();
    for bytes in ["", "HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\nnot twenty"] {
        let server = RawServer::start([Reply::raw(bytes, End::Hang)]).await;
        let error = fetch(&media, &server.url("/v.mp4"), None).await.unwrap_err();
        assert_eq!(error.trouble, FetchTrouble::Interrupted);
        assert!(error.why.contains("timed out"), "{error}");
    }
}

#[tokio::test]
async fn each_status_says_what_it_means_for_the_link() {
    for (status, expected) in [
        (403, FetchTrouble::LinkDead),
        (404, FetchTrouble::LinkDead),
        (410, FetchTrouble::LinkDead),
        (400, FetchTrouble::LinkDead),
        (401, FetchTrouble::LinkDead),
        (416, FetchTrouble::LinkDead),
        (408, FetchTrouble::Interrupted),
        (429, FetchTrouble::Interrupted),
        (500, FetchTrouble::Interrupted),
        (503, FetchTrouble::Interrupted),
        (520, FetchTrouble::Interrupted),
        (202, FetchTrouble::WrongBody),
        (206, FetchTrouble::WrongBody),
        (300, FetchTrouble::WrongBody),
    ] {
        let error = trouble(Reply::http(status, "Retry-After: 7\r\n", "text")).await;
        assert_eq!(error.trouble, expected, "{status}");
        assert!(error.why.contains(&status.to_string()), "{error}");
        let wish = (expected == FetchTrouble::Interrupted).then_some(Duration::from_secs(7));
        assert_eq!(error.retry_after, wish, "{status}");
    }
}

#[tokio::test]
async fn what_is_no_video_or_too_long_is_a_wrong_body() {
    let long = "x".repeat(1001);
    let chunked = |text: &str| {
        format!(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{text}\r\n0\r\n\r\n",
            text.len()
        )
    };
    for reply in [
        Reply::http(200, "Content-Type: text/html; charset=utf-8\r\n", "<html>"),
        Reply::http(200, "Content-Type: application/JSON\r\n", "{}"),
        Reply::http(200, "Content-Type: application/xml\r\n", "<Error/>"),
        Reply::http(200, "Content-Type: application/problem+json\r\n", "{}"),
        Reply::http(200, "Content-Encoding: gzip\r\n", "zipped"),
        Reply::http(200, "Content-Type: video/mp4\r\n", ""),
        Reply::http(200, "", &long),
        Reply::raw(chunked(&long), End::Keep),
        Reply::raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", End::Keep),
        Reply::raw("HTTP/1.1 200 OK\r\nContent-Length: 9000000000000000000\r\n\r\n", End::Keep),
    ] {
        assert_eq!(trouble(reply).await.trouble, FetchTrouble::WrongBody);
    }
    let just_fits = "x".repeat(1000);
    for reply in [
        Reply::http(
            200,
            "Content-Type: application/octet-stream\r\nContent-Encoding: identity\r\n",
            &just_fits,
        ),
        Reply::raw(chunked(&just_fits), End::Keep),
        Reply::raw(format!("HTTP/1.1 200 OK\r\n\r\n{just_fits}"), End::Close),
    ] {
        let server = RawServer::start([reply]).await;
        assert_eq!(fetch(&media(), &server.url("/"), None).await.unwrap().1.len(), 1000);
    }
}

#[tokio::test]
async fn redirects_are_followed_five_times() {
    let hop = |status| Reply::http(status, "Location: ../x/next.mp4?sig=A%2fB\r\n", "");
    let hops = || [301, 302, 303, 307, 308].map(hop);
    let server = RawServer::start(hops().into_iter().chain([Reply::http(
        206,
        "Content-Range: bytes 12-19/20\r\n",
        "the rest",
    )]))
    .await;
    let got = fetch(&media(), &server.url("/a/v.mp4"), Some(&resume())).await.unwrap();
    assert_eq!(got, (12, b"the rest".to_vec()), "the range goes along");
    assert!(server.requests()[5].starts_with("GET /x/next.mp4?sig=A%2fB HTTP/1.1"));

    let server = RawServer::start(hops().into_iter().chain([hop(302), Reply::http(200, "", "video")])).await;
    let error = fetch(&media(), &server.url("/a/v.mp4"), None).await.unwrap_err();
    assert_eq!((error.trouble, server.requests().len()), (FetchTrouble::LinkDead, 6));

    for location in [
        "",
        "Location: \r\n",
        "Location: ftp://127.0.0.1/v.mp4\r\n",
        "Location: http://\r\n",
        "Location: file:///etc/passwd\r\n",
    ] {
        // An empty one leads to itself, until there were too many.
        let server = RawServer::start((0..9).map(|_| Reply::http(302, location, ""))).await;
        let error = fetch(&media(), &server.url("/v.mp4"), None).await.unwrap_err();
        assert_eq!(error.trouble, FetchTrouble::LinkDead, "{location}: {error}");
    }
}

#[test]
fn a_redirect_never_leaves_https() {
    let answer = |location: &str| {
        Response::from(::http::Response::builder().status(302).header("location", location).body("").unwrap())
    };
    let from = |scheme: &str| Url::parse(&format!("{scheme}://cdn.example/v.mp4")).unwrap();
    let next = |location: &str, scheme: &str| redirect(&answer(location), &from(scheme));
    assert_eq!(next("http://cdn.example/v.mp4", "https").unwrap_err().trouble, FetchTrouble::LinkDead);
    assert!(
        next("/other.mp4", "https")
            .unwrap()
            .is_some_and(|url| url.as_str() == "https://cdn.example/other.mp4")
    );
    assert!(next("https://cdn.example/v.mp4", "http").unwrap().is_some());
    assert!(next("http://cdn.example/w.mp4", "http").unwrap().is_some());
}

#[tokio::test]
async fn private_addresses_are_refused_without_a_connection() {
    let server = RawServer::start([]).await;
    let port = server.address.rsplit(':').next().unwrap().to_owned();
    let strict = Media::new(&MediaSettings { allow_private: false, ..settings() }).unwrap();
    for host in [
        "127.0.0.1",
        "2130706433",
        "0x7f000001",
        "127.1",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "localhost",
        "192.168.0.1",
    ] {
        let error = fetch(&strict, &format!("http://{host}:{port}/v.mp4"), None).await.unwrap_err();
        assert_eq!(error.trouble, FetchTrouble::LinkDead, "{host}");
        assert!(error.why.contains("not on the public internet"), "{error}");
    }
    assert_eq!(server.connections(), 0);
    for link in ["", "v.mp4", "file:///etc/passwd", "data:video/mp4,x", "http://"] {
        assert_eq!(fetch(&strict, link, None).await.unwrap_err().trouble, FetchTrouble::LinkDead, "{link}");
    }
}

#[tokio::test]
async fn a_redirect_to_a_private_address_is_refused() {
    // Through a proxy, so that a public name is answered here; the proxy's own address may be private.
    for location in [
        "http://127.0.0.1/v.mp4",
        "http://2130706433/",
        "//169.254.169.254/latest/meta-data",
        "http://nas.local/",
    ] {
        let redirect = Reply::http(302, &format!("Location: {location}\r\n"), "");
        let proxy = RawServer::start([redirect, Reply::http(200, "", "secret")]).await;
        let proxied =
            MediaSettings { allow_private: false, proxy: Some(proxy.url("").parse().unwrap()), ..settings() };
        let error =
            fetch(&Media::new(&proxied).unwrap(), "http://cdn.example.com/v.mp4", None).await.unwrap_err();
        assert_eq!(error.trouble, FetchTrouble::LinkDead, "{location}");
        assert_eq!(proxy.requests().len(), 1, "{location}");
        assert!(proxy.requests()[0].starts_with("GET http://cdn.example.com/v.mp4 "));
    }
}

#[tokio::test]
async fn a_name_that_resolves_to_a_private_address_is_a_dead_link() {
    // Past the check of the name, as a public name with a private address would be.
    let make = || Ok(http::client(Duration::from_secs(60), None)?.dns_resolver(PublicOnly));
    let client = http::build(false, make).unwrap();
    let server = RawServer::start([Reply::http(200, "", "secret")]).await;
    let url = server.url("/").replace("127.0.0.1", "localhost");
    let error = broken(client.get(url).send().await.unwrap_err());
    assert_eq!((error.trouble, server.connections()), (FetchTrouble::LinkDead, 0), "{error}");
}
