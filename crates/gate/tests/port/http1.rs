//! HTTP/1.1 on the same port: for plain services, and a clear word for everything else.

use evermesh_gate::Limits;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::time::Instant;

use crate::pipes::{Port, ended};
use crate::services;

/// One request, and the answer up to the end of its headers, in small letters.
async fn ask(connection: &mut DuplexStream, request: &str) -> String {
    connection.write_all(request.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(connection.read_u8().await.unwrap());
    }
    let head = String::from_utf8(head).unwrap().to_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
    connection.read_exact(&mut body).await.unwrap();
    head
}

#[tokio::test(start_paused = true)]
async fn p10_a_plain_service_learns_who_calls_and_no_header_can_pretend() {
    let port = Port::open(services::routes(), Limits::default());
    let mut connection = port.dial();
    let forged = "GET /plain HTTP/1.1\r\nhost: x\r\nx-evermesh-identity: root\r\n\r\n";
    let answer = ask(&mut connection, forged).await;
    assert!(answer.starts_with("http/1.1 200") && answer.contains("\r\nidentity: "), "{answer}");
    assert!(!answer.contains("root"), "{answer}");
    // The same connection takes another one, below the segment.
    let deeper = ask(&mut connection, "GET /plain/a/b HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert!(deeper.contains("\r\npath: /plain/a/b"), "{deeper}");
}

#[tokio::test(start_paused = true)]
async fn what_is_not_for_it_says_so() {
    let port = Port::open(services::routes(), Limits::default());
    let mut connection = port.dial();
    for (path, status, reason) in [
        ("/test.v1.Who/Ask", "505", "http_too_old"),
        ("/nothing", "404", "no_route"),
        ("/plain/../test.v1.Who/Ask", "400", "bad_path"),
        ("/plain//a", "400", "bad_path"),
    ] {
        let answer =
            ask(&mut connection, &format!("POST {path} HTTP/1.1\r\nhost: x\r\n\r\n")).await;
        assert!(answer.starts_with(&format!("http/1.1 {status}")), "{path}: {answer}");
        assert!(answer.contains(&format!("evermesh-reason: {reason}")), "{path}: {answer}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_ends_and_so_does_one_whose_headers_do_not() {
    let port = Port::open(services::routes(), Limits::default());
    let (mut idle, mut slow) = (port.dial(), port.dial());
    ask(&mut idle, "GET /plain HTTP/1.1\r\nhost: x\r\n\r\n").await;
    slow.write_all(b"GET /plain HTTP/1.1\r\nhost: x\r\nx-slow: ").await.unwrap();
    let begun = Instant::now();
    let mut rest = String::new();
    idle.read_to_string(&mut rest).await.unwrap();
    slow.read_to_string(&mut rest).await.unwrap();
    assert!(begun.elapsed().as_secs() <= 61, "{:?}", begun.elapsed());
    // Headers have a bound too.
    let mut large = port.dial();
    let headers = format!("GET /plain HTTP/1.1\r\nhost: x\r\nx: {}", "y".repeat(32 * 1024));
    // It is answered before all of it was taken.
    let _ = large.write_all(headers.as_bytes()).await;
    large.read_to_string(&mut rest).await.unwrap();
    assert!(rest.to_lowercase().contains("431"), "{rest}");
}

#[tokio::test(start_paused = true)]
async fn on_drain_an_idle_connection_ends_at_once() {
    let port = Port::open(services::routes(), Limits::default());
    let mut connection = port.dial();
    ask(&mut connection, "GET /plain HTTP/1.1\r\nhost: x\r\n\r\n").await;
    port.handle.finish();
    assert_eq!(connection.read(&mut [0; 1]).await.unwrap(), 0);
    ended(port.serving).await;
}
