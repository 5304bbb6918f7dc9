//! The rewards of a run, opened: every judge once, asked for whole groups at a time.
//!
//! ```text
//!   completions of a task ─► cases ─► each judge of the task ─► weighted sum, or no verdict
//! ```
//!
//! A judge that fails, panics or gives no number costs the sample, not the run.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mmada_data::picture::Picture;
use mmada_data::{Example, Pack};
use mmada_grade::drawing::Drawing;
use mmada_grade::grader::{ExactAnswer, ExactText, PlainText, Shows, Steps, ThinkFormat};
use mmada_grade::judge::{PANICKED, finite};
use mmada_grade::{
    Case, ClipScore, Coverage, Each, Endpoint, EndpointOptions, ImageRewardScore, Judge, Judged,
    Likeness, Reply, Truth,
};
use mmada_tensor::Device;
use mmada_tokens::Task;
use serde::{Deserialize, Serialize};

use super::reward::{GraderName, Reward, Rewards};
use crate::{Error, Result};

/// Where the judges are that are more than a function.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct JudgesConfig {
    /// Folder of the CLIP model (`openai/clip-vit-*`) behind `grader = "clip"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clip: Option<PathBuf>,
    /// Folder of ImageReward behind `grader = "image_reward"`: `med_config.json`, its weights as
    /// safetensors, the `tokenizer.json` of bert-base-uncased.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_reward: Option<PathBuf>,
    /// Packs with the training pictures behind `grader = "likeness"`; of other packs' captions it gives 0.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub likeness: Vec<PathBuf>,
    /// The same behind `grader = "coverage"`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub coverage: Vec<PathBuf>,
    /// How endpoints are asked.
    pub endpoint: EndpointOptions,
}

/// The verdicts on one completion.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    /// The weighted sum.
    pub reward: f64,
    /// Each grader's own number.
    pub parts: Vec<(GraderName, f64)>,
}

/// All judges that a run's rewards name.
pub struct Judges {
    rewards: Rewards,
    opened: Vec<(GraderName, Arc<dyn Judge>)>,
}

impl Judges {
    /// Opens every judge that is named; an endpoint is not asked yet.
    ///
    /// # Errors
    /// When a judge does not fit the task, its model cannot be read, or a setting makes no sense.
    pub fn open(rewards: &Rewards, config: &JudgesConfig, device: &Device) -> Result<Self> {
        if let Some(problem) = config.endpoint.problem() {
            return Err(Error::Config(format!("objective.judges.{problem}")));
        }
        rewards.check()?;
        let mut opened: Vec<(GraderName, Arc<dyn Judge>)> = Vec::new();
        for Reward { grader, .. } in rewards.all() {
            if !opened.iter().any(|(name, _)| name == grader) {
                opened.push((grader.clone(), open(grader, config, device)?));
            }
        }
        Ok(Self {
            rewards: rewards.clone(),
            opened,
        })
    }

    /// Judges completions of one task; for those that a judge has no number for, its name and why.
    pub fn judge(
        &self,
        task: Task,
        replies: &[(&Example, Reply<'_>)],
    ) -> Vec<std::result::Result<Verdict, String>> {
        let rewards = self.rewards.of(task);
        let judges: Vec<&Arc<dyn Judge>> = rewards
            .iter()
            .filter_map(|reward| {
                let of_name = |(name, _): &&(GraderName, _)| *name == reward.grader;
                self.opened.iter().find(of_name).map(|(_, judge)| judge)
            })
            .collect();
        let looks = task == Task::Describe && judges.iter().any(|judge| judge.looks_at_pictures());
        let pictures = if looks {
            shown(replies)
        } else {
            HashMap::new()
        };
        let cases = replies.iter().map(|(example, reply)| {
            let image = example.image.as_ref();
            Case {
                prompt: &example.prompt,
                shown: image.and_then(|image| pictures.get(&image.id())),
                reply: *reply,
                truth: truth_of(example, *reply),
            }
        });
        let cases: Vec<Case<'_>> = cases.collect();
        let start = Verdict {
            reward: 0.0,
            parts: Vec::with_capacity(rewards.len()),
        };
        let mut verdicts = vec![Ok(start); cases.len()];
        for (Reward { grader, weight }, judge) in rewards.iter().zip(judges) {
            let values = guarded(judge.as_ref(), &cases);
            for (verdict, value) in verdicts.iter_mut().zip(values) {
                match (verdict.as_mut(), value) {
                    (Ok(so_far), Ok(value)) => {
                        so_far.reward += weight * value;
                        so_far.parts.push((grader.clone(), value));
                    }
                    (Ok(_), Err(reason)) => *verdict = Err(format!("{grader}: {reason}")),
                    (Err(_), _) => {}
                }
            }
        }
        verdicts
    }
}

/// A judge's numbers, unless it panics or one is not finite; always one per case.
pub fn guarded(judge: &dyn Judge, cases: &[Case<'_>]) -> Vec<Judged> {
    let judged = catch_unwind(AssertUnwindSafe(|| judge.judge(cases)));
    let (mut values, missing) = match judged {
        Ok(values) => (values, "it gave too few numbers"),
        Err(_) => (Vec::new(), PANICKED),
    };
    values.resize(cases.len(), Err(missing.to_owned()));
    let counted = |value: Judged| value.and_then(finite);
    values.into_iter().map(counted).collect()
}

/// The pictures that were asked about, each decoded once; unreadable ones are absent.
fn shown(replies: &[(&Example, Reply<'_>)]) -> HashMap<u64, Picture> {
    let mut pictures = HashMap::new();
    for image in replies
        .iter()
        .filter_map(|(example, _)| example.image.as_ref())
    {
        if !pictures.contains_key(&image.id())
            && let Ok(picture) = image.picture()
        {
            pictures.insert(image.id(), picture);
        }
    }
    pictures
}

fn truth_of<'a>(example: &'a Example, reply: Reply<'_>) -> Truth<'a> {
    let shown = example.shows.as_deref();
    match (reply, Drawing::named_in(shown.unwrap_or(&example.prompt))) {
        (Reply::Picture(_), Some((color, shape))) => Truth::Drawing { color, shape },
        (Reply::Picture(_), None) => shown.map_or(Truth::Unknown, Truth::Text),
        (Reply::Text(_), _) => match &example.thought {
            Some(thought) => Truth::Reasoned {
                thought,
                answer: &example.answer,
            },
            None => Truth::Text(&example.answer),
        },
    }
}

fn open(name: &GraderName, config: &JudgesConfig, device: &Device) -> Result<Arc<dyn Judge>> {
    Ok(match name {
        GraderName::Answer => Arc::new(Each(ExactAnswer)),
        GraderName::Steps => Arc::new(Each(Steps)),
        GraderName::Format => Arc::new(Each(ThinkFormat)),
        GraderName::Exact => Arc::new(Each(ExactText)),
        GraderName::Plain => Arc::new(Each(PlainText)),
        GraderName::Color => Arc::new(Each(Shows::Color)),
        GraderName::Shape => Arc::new(Each(Shows::Shape)),
        GraderName::Drawing => Arc::new(Each(Shows::Both)),
        GraderName::Outline => Arc::new(Each(Shows::Outline)),
        GraderName::Likeness => {
            let packs = packs(name, &config.likeness)?;
            Arc::new(Likeness::of(&packs).map_err(Error::data)?)
        }
        GraderName::Coverage => {
            let packs = packs(name, &config.coverage)?;
            Arc::new(Coverage::of(&packs).map_err(Error::data)?)
        }
        GraderName::Clip => {
            let dir = folder(name, config.clip.as_ref(), "openai/clip-vit-large-patch14")?;
            Arc::new(ClipScore::open(dir, device).map_err(Error::data)?)
        }
        GraderName::ImageReward => {
            let dir = folder(name, config.image_reward.as_ref(), "THUDM/ImageReward")?;
            Arc::new(ImageRewardScore::open(dir, device).map_err(Error::data)?)
        }
        GraderName::Endpoint(url) => {
            let judge = Endpoint::new(url, config.endpoint);
            Arc::new(judge.map_err(|error| Error::Config(format!("objective.judges.{error}")))?)
        }
    })
}

/// The packs with pictures to compare with.
fn packs(name: &GraderName, given: &[PathBuf]) -> Result<Vec<Pack>> {
    if given.is_empty() {
        return Err(Error::Config(format!(
            "objective.judges.{name}: expected packs with the training pictures behind the grader {name}, got none; \
             try [\"assets/data/animals\"]"
        )));
    }
    let packs = given.iter().map(Pack::open);
    packs
        .collect::<std::result::Result<_, _>>()
        .map_err(Error::data)
}

/// The folder of a judge that is a model.
fn folder<'a>(name: &GraderName, given: Option<&'a PathBuf>, example: &str) -> Result<&'a Path> {
    given.map(PathBuf::as_path).ok_or_else(|| {
        Error::Config(format!(
            "objective.judges.{name}: expected the folder of the model behind the grader {name}, \
             got none; try {example}"
        ))
    })
}
