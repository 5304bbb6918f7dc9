//! A judge of one's own, in any language, behind an HTTP endpoint.
//!
//! ```text
//!   POST url   {"samples": [{"prompt": "…", "truth": "…", "reply": "…"}, …]}
//!   200        {"rewards": [1.0, null, …]}                       one per sample, in their order
//! ```
//!
//! `prompt` is what the model was asked; `truth` the right answer, where there is one, of a painted
//! shape such as "blue circle"; `reply` the model's text, thought included. Pictures are PNG files in
//! base64: `shown`, the one that was asked about, and `painted`, the reply. A field that does not apply
//! is left out. `null` and `NaN` mean that a sample cannot be judged; it is dropped and the rest go on.
//!
//! A request that fails, times out or is answered with anything else is sent again, each time after
//! twice the pause; after the last attempt its samples are dropped. A 4xx answer other than 408, 425 and
//! 429 is not asked again: the request would be as wrong the next time. Nor is a redirect followed, on
//! which a request may lose its body.

use std::borrow::Cow;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use mmada_data::picture::Picture;
use serde::{Deserialize, Serialize};

use crate::grader::{Reply, Truth};
use crate::judge::{Case, Judge, Judged};

/// How an endpoint is asked.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EndpointOptions {
    /// Seconds until a request counts as failed.
    pub timeout: f64,
    /// How often a request is sent before its samples are dropped.
    pub attempts: u32,
    /// Seconds before the second attempt; each later pause is twice as long.
    pub pause: f64,
    /// Samples of one request.
    pub batch: usize,
}

impl Default for EndpointOptions {
    fn default() -> Self {
        Self {
            timeout: 30.0,
            attempts: 3,
            pause: 0.5,
            batch: 64,
        }
    }
}

impl EndpointOptions {
    /// What is wrong with the values, if anything.
    pub fn problem(&self) -> Option<&'static str> {
        let seconds = |value: f64| (0.0..=MOST_SECONDS).contains(&value);
        if !seconds(self.timeout) || self.timeout == 0.0 || !seconds(self.pause) {
            return Some(
                "endpoint.timeout and pause: expected seconds, at most a day, timeout above 0",
            );
        }
        let few = 1..=MOST_ATTEMPTS;
        if !few.contains(&self.attempts) || self.batch == 0 {
            return Some("endpoint.attempts: expected 1 to 16; endpoint.batch: 1 or more");
        }
        None
    }
}

const MOST_SECONDS: f64 = 86_400.0;
const MOST_ATTEMPTS: u32 = 16;
/// A longer answer is no list of rewards.
const LONGEST_ANSWER: u64 = 16 << 20;

/// A judge behind an address.
#[derive(Debug)]
pub struct Endpoint {
    url: String,
    options: EndpointOptions,
    agent: ureq::Agent,
}

#[derive(Serialize)]
struct Request<'a> {
    samples: Vec<Sample<'a>>,
}

#[derive(Serialize)]
struct Sample<'a> {
    prompt: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    truth: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reply: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    shown: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    painted: Option<String>,
}

#[derive(Deserialize)]
struct Answer {
    rewards: Vec<Option<f64>>,
}

/// Why an attempt brought no rewards, in words.
enum Failure {
    /// It may go better the next time.
    Passing(String),
    /// It will not.
    Lasting(String),
}

impl Endpoint {
    /// A judge at `url`, which is not asked yet.
    ///
    /// # Errors
    /// When the options have a [problem](EndpointOptions::problem).
    pub fn new(url: &str, options: EndpointOptions) -> crate::Result<Self> {
        if let Some(problem) = options.problem() {
            return Err(crate::Error::Options(problem));
        }
        let config = ureq::Agent::config_builder()
            .timeout_global(Some(Duration::from_secs_f64(options.timeout)))
            .http_status_as_error(false)
            .max_redirects(0)
            .build();
        Ok(Self {
            url: url.to_owned(),
            options,
            agent: config.into(),
        })
    }

    fn ask(&self, cases: &[Case<'_>]) -> Vec<Judged> {
        let samples = cases.iter().map(Sample::of).collect();
        let Ok(body) = serde_json::to_vec(&Request { samples }) else {
            return vec![Err("the cases cannot be written as JSON".to_owned()); cases.len()];
        };
        let mut pause = self.options.pause;
        let mut reason = String::new();
        for attempt in 1..=self.options.attempts {
            match self.attempt(&body, cases.len()) {
                Ok(rewards) => {
                    let judged = |reward: Option<f64>| reward.ok_or("it gave no number".to_owned());
                    return rewards.into_iter().map(judged).collect();
                }
                Err(Failure::Lasting(why)) => {
                    reason = why;
                    break;
                }
                Err(Failure::Passing(why)) => reason = why,
            }
            if attempt < self.options.attempts {
                std::thread::sleep(Duration::from_secs_f64(pause.min(MOST_SECONDS)));
                pause *= 2.0;
            }
        }
        vec![Err(reason); cases.len()]
    }

    fn attempt(&self, body: &[u8], count: usize) -> Result<Vec<Option<f64>>, Failure> {
        let request = self.agent.post(&self.url);
        let request = request.header("content-type", "application/json");
        let passing = |what: &dyn std::fmt::Display| Failure::Passing(what.to_string());
        let mut response = request.send(body).map_err(|error| passing(&error))?;
        let status = response.status();
        if status.is_redirection() {
            let address = response.headers().get("location");
            let address = address.and_then(|address| address.to_str().ok());
            return Err(Failure::Lasting(match address {
                Some(address) => format!("it redirects to {address}; name that address"),
                None => format!("it answered {status}"),
            }));
        }
        let is_busy = matches!(status.as_u16(), 408 | 425 | 429);
        if status.is_client_error() && !is_busy {
            return Err(Failure::Lasting(format!("it answered {status}")));
        }
        if !status.is_success() {
            return Err(passing(&format!("it answered {status}")));
        }
        let reader = response.body_mut().with_config().limit(LONGEST_ANSWER);
        let text = reader.read_to_string().map_err(|error| passing(&error))?;
        // Some libraries write NaN and infinities into JSON, where none are.
        let text = text.replace("-Infinity", "null");
        let text = text.replace("Infinity", "null").replace("NaN", "null");
        let answer: Answer = serde_json::from_str(&text).map_err(|error| {
            passing(&format!(
                "expected {{\"rewards\": [numbers]}}, got other text: {error}"
            ))
        })?;
        if answer.rewards.len() != count {
            let got = answer.rewards.len();
            return Err(passing(&format!("expected {count} rewards, got {got}")));
        }
        Ok(answer.rewards)
    }
}

impl<'a> Sample<'a> {
    fn of(case: &Case<'a>) -> Self {
        let (reply, painted) = match case.reply {
            Reply::Text(text) => (Some(text), None),
            Reply::Picture(picture) => (None, png(picture)),
        };
        Self {
            prompt: case.prompt,
            truth: match case.truth {
                Truth::Drawing { color, shape } => Some(format!("{color} {shape}").into()),
                truth => truth.text().map(Cow::Borrowed),
            },
            reply,
            shown: case.shown.and_then(png),
            painted,
        }
    }
}

fn png(picture: &Picture) -> Option<String> {
    let png = picture.encode_png().ok()?;
    Some(STANDARD.encode(png))
}

impl Judge for Endpoint {
    fn judge(&self, cases: &[Case<'_>]) -> Vec<Judged> {
        let batches = cases.chunks(self.options.batch);
        batches.flat_map(|batch| self.ask(batch)).collect()
    }

    fn looks_at_pictures(&self) -> bool {
        true
    }
}
