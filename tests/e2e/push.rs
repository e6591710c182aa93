//! Push: each event is a request to a local URL. Against a small server of the test, and against a
//! real Varnish.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use rustix::process::Signal;

use crate::mesh::succeed;
use crate::node::{Node, free_port, until};
use crate::pages::{lacks, page};

/// A server that counts what it is asked, and answers 503 as often as it was told to.
#[derive(Clone)]
struct Backend {
    port: u16,
    asked: Arc<Mutex<Vec<String>>>,
    refusals: Arc<Mutex<HashMap<String, usize>>>,
}

impl Backend {
    fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let backend = Self { port, asked: Arc::default(), refusals: Arc::default() };
        let serving = backend.clone();
        // It ends with the process.
        std::thread::spawn(move || listener.incoming().for_each(|io| serving.answer(io.unwrap())));
        backend
    }

    fn refuse(&self, request: &str, times: usize) {
        self.refusals.lock().unwrap().insert(request.to_owned(), times);
    }

    fn answer(&self, mut io: TcpStream) {
        let mut lines = BufReader::new(io.try_clone().unwrap()).lines();
        // A probe of the port says nothing.
        let Some(Ok(first)) = lines.next() else { return };
        let mut host = String::new();
        for line in lines.map_while(Result::ok).take_while(|line| !line.is_empty()) {
            if let Some(name) = line.to_lowercase().strip_prefix("host: ") {
                name.clone_into(&mut host);
            }
        }
        let request = first.trim_end_matches(" HTTP/1.1").to_owned();
        let mut refusals = self.refusals.lock().unwrap();
        let refused = refusals.get_mut(&request).filter(|left| **left > 0);
        let status = refused.map_or("200 OK", |left| {
            *left -= 1;
            "503 Service Unavailable"
        });
        let mut asked = self.asked.lock().unwrap();
        asked.push(request.clone());
        let count = asked.iter().filter(|asked| **asked == request).count();
        let body = format!("{count} {host}");
        let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n", body.len());
        // Whoever asked may be gone.
        let _ = write!(io, "{head}connection: close\r\n\r\n{body}");
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

fn node(directory: &std::path::Path, port: u16) -> Node {
    let more = format!(
        "[[push]]\nname = \"varnish\"\nsites = [\"shop\"]\n\
         url = \"http://127.0.0.1:{port}/{{key_path}}\"\nmethod = \"PURGE\"\n\
         headers = [\"Host: shop.example\"]\n\
         missed_url = \"http://127.0.0.1:{port}/\"\nmissed_method = \"BAN\"\n\
         missed_headers = [\"Host: shop.example\"]\n"
    );
    Node::new(directory, "web-1", &more)
}

fn publish(node: &Node, keys: &[&str]) {
    for key in keys {
        succeed(&["publish", "--at", &node.at(), "--site", "shop", "--type", "t", "--key", key]);
    }
}

#[test]
fn p3_requests_go_in_order_are_retried_and_set_aside_and_go_on_after_a_kill() {
    let directory = tempfile::tempdir().unwrap();
    let backend = Backend::start();
    let mut node = node(directory.path(), backend.port);
    node.start();
    until("what was before is missed", || backend.asked() == ["BAN /"]);
    backend.refuse("PURGE /b", 2);
    publish(&node, &["/a", "/b", "/c d"]);
    let all = ["BAN /", "PURGE /a", "PURGE /b", "PURGE /b", "PURGE /b", "PURGE /c%20d"];
    until("all is pushed", || backend.asked().len() == all.len());
    assert_eq!(backend.asked(), all);

    // The place outlives the node; what it could not push meanwhile comes then.
    let letters = || succeed(&["letters", "list", "--json", "--at", &node.at()]).stdout;
    assert!(letters().is_empty());
    node.end(Signal::KILL);
    node.start();
    publish(&node, &["/e"]);
    until("it goes on", || backend.asked().last().unwrap() == "PURGE /e");
    assert!(!backend.asked()[all.len()..].contains(&"BAN /".to_owned()), "nothing is missed");

    // One that is refused for good is set aside, and everything is dropped in its place.
    backend.refuse("PURGE /bad", 99);
    publish(&node, &["/bad", "/f"]);
    until("it goes on behind it", || backend.asked().last().unwrap() == "PURGE /f");
    let asked = backend.asked();
    let tail: Vec<_> = asked[asked.len() - 7..].iter().map(String::as_str).collect();
    let bad = "PURGE /bad";
    assert_eq!(tail, [bad, bad, bad, bad, bad, "BAN /", "PURGE /f"]);
    let letters =
        String::from_utf8(succeed(&["letters", "list", "--at", &node.at()]).stdout).unwrap();
    assert!(letters.contains("varnish") && letters.contains("503 Service"), "{letters}");
}

struct Varnish(Child);

impl Drop for Varnish {
    fn drop(&mut self) {
        // SIGTERM ends its worker too.
        let pid = rustix::process::Pid::from_raw(self.0.id().cast_signed()).unwrap();
        let _ = rustix::process::kill_process(pid, Signal::TERM);
        let _ = self.0.wait();
    }
}

impl Varnish {
    fn start(directory: &std::path::Path, port: u16, backend: u16) -> Option<Self> {
        let vcl = page("deploy/varnish/evermesh.vcl").replace("8080", &backend.to_string());
        let file = directory.join("evermesh.vcl");
        std::fs::write(&file, vcl).unwrap();
        let mut command = Command::new("varnishd");
        command.args(["-F", "-j", "none", "-s", "malloc,16m", "-T", "none"]);
        command.arg("-a").arg(format!("127.0.0.1:{port}")).arg("-f").arg(&file);
        command.arg("-n").arg(directory.join("varnish"));
        let log = std::fs::File::create(directory.join("varnish.log")).unwrap();
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let Ok(child) = command.spawn() else {
            lacks("varnishd");
            return None;
        };
        let varnish = Self(child);
        until("varnish serves", || TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok());
        Some(varnish)
    }
}

/// How often the page was made, as the visitor sees it.
fn visit(port: u16, path: &str) -> usize {
    let mut io = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    write!(io, "GET {path} HTTP/1.1\r\nhost: shop.example\r\nconnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    io.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200"), "{text}");
    body.split(' ').next().unwrap().parse().unwrap()
}

#[test]
fn a_real_varnish_drops_the_page_that_was_published_and_everything_on_missed() {
    let directory = tempfile::tempdir().unwrap();
    let (backend, port) = (Backend::start(), free_port());
    let Some(_varnish) = Varnish::start(directory.path(), port, backend.port) else { return };
    for page in ["/product/1", "/product/2"] {
        assert_eq!((visit(port, page), visit(port, page)), (1, 1), "it is kept");
    }
    // A node that nobody knew the name at: everything may have been missed.
    let mut node = node(directory.path(), port);
    node.start();
    until("everything is dropped", || visit(port, "/product/1") == 2);
    assert_eq!(visit(port, "/product/2"), 2);

    publish(&node, &["/product/1"]);
    until("the page is dropped", || visit(port, "/product/1") == 3);
    assert_eq!(visit(port, "/product/2"), 2, "and no other");
}
