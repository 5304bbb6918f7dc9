//! The judge over HTTP against a server of ten lines that does what it is told, or worse.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use mmada_data::picture::{Limits, Picture};
use mmada_grade::{Case, Endpoint, EndpointOptions, Judge, Reply, Truth};
use serde_json::Value;

/// What the server does with a request.
#[derive(Clone, Copy)]
enum Act {
    /// Answers with this status and body.
    Say(u16, &'static str),
    /// Sends the request to another address.
    Redirect(u16),
    /// Reads the request and never answers.
    Hang,
    /// Closes the connection at once.
    Drop,
}

/// A server that does these acts, one per request, the last one again and again; the bodies of the
/// requests come out of the channel.
fn server(acts: &'static [Act]) -> (String, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/judge", listener.local_addr().unwrap());
    let (send, bodies) = channel();
    std::thread::spawn(move || {
        let mut held = Vec::new();
        for (number, stream) in listener.incoming().enumerate() {
            let mut stream = stream.unwrap();
            let act = acts[number.min(acts.len() - 1)];
            if matches!(act, Act::Drop) {
                continue;
            }
            let _ = send.send(body(&stream));
            let (status, text, more) = match act {
                Act::Say(status, text) => (status, text, ""),
                Act::Redirect(status) => (status, "", "location: /v2/judge\r\n"),
                Act::Hang | Act::Drop => (0, "", ""),
            };
            if status > 0 {
                let length = text.len();
                let head = format!(
                    "HTTP/1.1 {status} x\r\nconnection: close\r\n{more}content-length: {length}\r\n\r\n"
                );
                let _ = stream.write_all(head.as_bytes());
                let _ = stream.write_all(text.as_bytes());
            }
            held.push(stream);
        }
    });
    (url, bodies)
}

fn body(stream: &TcpStream) -> String {
    let mut reader = BufReader::new(stream);
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        let line = line.to_lowercase();
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        if line.trim().is_empty() {
            break;
        }
    }
    let mut bytes = vec![0; length];
    reader.read_exact(&mut bytes).unwrap();
    String::from_utf8(bytes).unwrap()
}

const QUICK: EndpointOptions = EndpointOptions {
    timeout: 0.3,
    attempts: 3,
    pause: 0.01,
    batch: 2,
};

fn judge(url: &str) -> Endpoint {
    Endpoint::new(url, QUICK).unwrap()
}

fn case(reply: &'static str) -> Case<'static> {
    Case {
        prompt: "1 + 1?",
        shown: None,
        reply: Reply::Text(reply),
        truth: Truth::Text("2"),
    }
}

#[test]
fn replies_are_judged_in_batches() {
    let (url, bodies) = server(&[
        Act::Say(200, r#"{"rewards": [1.0, -0.5]}"#),
        Act::Say(200, r#"{"rewards": [0.25], "more": "is ignored"}"#),
    ]);
    let judge = judge(&url);
    let got = judge.judge(&[case("2"), case("3"), case("4")]);
    assert_eq!(got, [Ok(1.0), Ok(-0.5), Ok(0.25)]);
    let first: Value = serde_json::from_str(&bodies.recv().unwrap()).unwrap();
    let sample = serde_json::json!({"prompt": "1 + 1?", "truth": "2", "reply": "3"});
    assert_eq!(first["samples"].as_array().unwrap().len(), 2);
    assert_eq!(first["samples"][1], sample);
    assert!(judge.judge(&[]).is_empty());
}

#[test]
fn pictures_travel_as_png() {
    let (url, bodies) = server(&[Act::Say(200, r#"{"rewards": [3]}"#)]);
    let picture = Picture::new(3, 2, (0..18).collect()).unwrap();
    let painted = Case {
        shown: Some(&picture),
        reply: Reply::Picture(&picture),
        truth: Truth::Drawing {
            color: "blue",
            shape: "circle",
        },
        ..case("")
    };
    assert_eq!(judge(&url).judge(&[painted]), [Ok(3.0)]);
    let body: Value = serde_json::from_str(&bodies.recv().unwrap()).unwrap();
    let sample = body["samples"][0].as_object().unwrap();
    let mut names: Vec<&str> = sample.keys().map(String::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["painted", "prompt", "shown", "truth"]);
    assert_eq!(sample["truth"], "blue circle");
    for name in ["painted", "shown"] {
        let png = STANDARD.decode(sample[name].as_str().unwrap()).unwrap();
        assert_eq!(Picture::decode(&png, &Limits::default()).unwrap(), picture);
    }
}

#[test]
fn failures_are_tried_again_and_then_dropped() {
    const GOOD: Act = Act::Say(200, r#"{"rewards": [1, 2]}"#);
    /// What the server does, and what comes of it after how many requests that it read.
    type Row = (&'static [Act], [Option<f64>; 2], usize);
    let table: [Row; 13] = [
        (&[Act::Say(500, "oh"), GOOD], [Some(1.0), Some(2.0)], 2),
        (
            &[Act::Say(200, "{}"), Act::Say(200, "<html>"), GOOD],
            [Some(1.0), Some(2.0)],
            3,
        ),
        (&[Act::Drop, GOOD], [Some(1.0), Some(2.0)], 1),
        (&[Act::Hang, GOOD], [Some(1.0), Some(2.0)], 2),
        (&[Act::Say(503, "")], [None, None], 3),
        (&[Act::Say(200, r#"{"rewards": [1]}"#)], [None, None], 3),
        (&[Act::Say(404, "")], [None, None], 1),
        // On some of these the body would be lost, so none is followed.
        (&[Act::Redirect(301), GOOD], [None, None], 1),
        (&[Act::Redirect(303), GOOD], [None, None], 1),
        (&[Act::Redirect(307), GOOD], [None, None], 1),
        // Too many requests: the same may be right a moment later.
        (&[Act::Say(429, ""), GOOD], [Some(1.0), Some(2.0)], 2),
        (
            &[Act::Say(200, r#"{"rewards": [NaN, 2]}"#)],
            [None, Some(2.0)],
            1,
        ),
        (
            &[Act::Say(200, r#"{"rewards": [-Infinity, null]}"#)],
            [None, None],
            1,
        ),
    ];
    for (number, (acts, expected, requests)) in table.into_iter().enumerate() {
        let (url, bodies) = server(acts);
        let judged = judge(&url).judge(&[case("a"), case("b")]);
        let got: Vec<Option<f64>> = judged.into_iter().map(Result::ok).collect();
        assert_eq!(got, expected, "row {number}");
        assert_eq!(bodies.try_iter().count(), requests, "row {number}");
    }
}

#[test]
fn a_server_that_hangs_or_is_absent_costs_bounded_time() {
    let (url, _bodies) = server(&[Act::Hang]);
    let start = Instant::now();
    assert!(judge(&url).judge(&[case("a")])[0].is_err());
    assert!(start.elapsed() < Duration::from_secs(5));
    let free = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let nobody = judge(&format!("http://{free}/"));
    assert!(nobody.judge(&[case("a")])[0].is_err());
    assert!(judge("http://").judge(&[case("a")])[0].is_err());
}

#[test]
fn senseless_options_are_named() {
    assert_eq!(EndpointOptions::default().problem(), None);
    for options in [
        EndpointOptions {
            timeout: 0.0,
            ..QUICK
        },
        EndpointOptions {
            timeout: f64::NAN,
            ..QUICK
        },
        EndpointOptions {
            timeout: -1.0,
            ..QUICK
        },
        EndpointOptions {
            pause: -1.0,
            ..QUICK
        },
        EndpointOptions {
            attempts: 0,
            ..QUICK
        },
        EndpointOptions { batch: 0, ..QUICK },
    ] {
        let problem = options.problem().unwrap();
        let error = Endpoint::new("http://localhost/", options).unwrap_err();
        assert_eq!(error.to_string(), problem, "{options:?}");
    }
}

/// What went wrong is said, so that a slip in the address is seen before the run is over.
#[test]
fn reasons_are_told() {
    for (acts, part) in [
        (&[Act::Say(404, "")] as &[Act], "404"),
        (
            &[Act::Redirect(302)],
            "it redirects to /v2/judge; name that address",
        ),
        (&[Act::Say(200, "<html>")], "rewards"),
        (
            &[Act::Say(200, r#"{"rewards": [1]}"#)],
            "expected 2 rewards, got 1",
        ),
        (&[Act::Say(200, r#"{"rewards": [null, 1]}"#)], "no number"),
    ] {
        let (url, _bodies) = server(acts.to_vec().leak());
        let reason = judge(&url).judge(&[case("a"), case("b")]).remove(0);
        let reason = reason.unwrap_err();
        assert!(reason.contains(part), "{reason}");
    }
}
