//! Rollouts: prompts become groups of completions with rewards, and completions become estimates of
//! their likelihood under the policy that wrote them.
//!
//! ```text
//!   example ─┬─ sampled G times ──▶ completions ──graders──▶ rewards ──▶ advantages
//!            │                          │
//!            │                 masked at t₁ … t_μ, the prompt never
//!            │                          │
//!            └──────────────────▶ estimates: noised ids, masked tokens, log p old, log p reference
//! ```
//!
//! A completion depends on `(seed, rollout, prompt, sample)` and the weights alone, so it can be
//! replayed alone.

use mmada_data::Example;
use mmada_data::picture::Picture;
use mmada_diffusion::corruption::{Piece, push_pieces};
use mmada_grade::grader::Reply;
use mmada_model::{
    ChatRequest, DescribeRequest, Mmada, Overrides, PaintOptions, PaintRequest, Preset, Seen,
    TextOptions,
};
use mmada_tensor::random::Purpose;
use mmada_tensor::{Rows, Tensor};
use mmada_tokens::{Sequence, Tail, Task};
use serde::{Deserialize, Serialize};

use super::judges::{Judges, Verdict};
use super::noise::Thoughts;
use crate::objective::Moment;
use crate::{Error, Result};

/// A prompt with what it needs: a picture to look at is already codes.
#[derive(Debug, Clone)]
pub struct Prompt {
    /// The example; its answer is only shown to graders.
    pub example: Example,
    /// The picture of a question.
    pub seen: Option<Seen>,
}

/// What the policy made of a prompt.
#[derive(Debug)]
pub struct Completion {
    /// Prompt and completion.
    pub sequence: Sequence,
    /// Its text, thought included.
    pub text: Option<String>,
    /// Its picture.
    pub picture: Option<Picture>,
    /// The verdict, or which grader had none and why.
    pub verdict: std::result::Result<Verdict, String>,
}

impl Completion {
    /// What is judged: its picture if it has one, else its text.
    fn reply(&self) -> Reply<'_> {
        match (&self.picture, &self.text) {
            (Some(picture), _) => Reply::Picture(picture),
            (None, text) => Reply::Text(text.as_deref().unwrap_or_default()),
        }
    }
}

/// A prompt and what was made of it.
#[derive(Debug)]
pub struct Group {
    /// Its place among the prompts of the micro-batch, those that are left out counted too.
    pub number: usize,
    /// What was asked.
    pub prompt: Prompt,
    /// What was sampled, in the order of its samples.
    pub completions: Vec<Completion>,
}

/// One noised completion: what an inner update learns from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// The row, masks where they fell.
    pub ids: Vec<u32>,
    /// What of it sees what; empty: it is one sequence.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pieces: Vec<Piece>,
    /// Places of the completion's masks in the row.
    pub positions: Vec<usize>,
    /// What stood there.
    pub targets: Vec<u32>,
    /// What logits are divided by before likelihoods are taken.
    pub temperature: f32,
    /// Log-likelihoods under the policy that wrote the completion.
    pub old: Vec<f32>,
    /// The same under the reference policy; empty where no divergence is wanted.
    pub reference: Vec<f32>,
    /// The completion's advantage within its group.
    pub advantage: f64,
}

impl Estimate {
    /// One without likelihoods and advantage yet, at temperature 1.
    pub(super) fn of(
        ids: Vec<u32>,
        pieces: Vec<Piece>,
        positions: Vec<usize>,
        targets: Vec<u32>,
    ) -> Self {
        Self {
            ids,
            pieces,
            positions,
            targets,
            temperature: 1.0,
            old: Vec::new(),
            reference: Vec::new(),
            advantage: 0.0,
        }
    }
}

/// How completions are sampled.
#[derive(Debug, Clone, Copy)]
pub struct Sampling {
    /// Completions of a prompt.
    pub group: usize,
    /// Scale of the noise on the tokens of text.
    pub temperature: f32,
    /// Whether thoughts before pictures are drawn like other texts.
    pub thoughts: Thoughts,
    /// Strength of the guidance of pictures; the model's own when absent.
    pub guidance: Option<f32>,
    /// Fidelity or speed, by name; the model's own way when absent.
    pub sampler: Option<Preset>,
    /// Seed of this rollout's draws.
    pub seed: u64,
}

impl Sampling {
    /// What is sampled otherwise than the model does by itself, of texts.
    pub(super) fn of_text(&self) -> Overrides {
        Overrides {
            sampler: self.sampler,
            temperature: Some(self.temperature),
            ..Overrides::default()
        }
    }
}

/// Samples and judges a group of completions for every prompt; all prompts of one task share
/// forwards. The groups are in the order of the prompts.
///
/// # Errors
/// Those of sampling.
pub fn completions(
    model: &Mmada,
    prompts: &[Prompt],
    sampling: &Sampling,
    judges: &Judges,
) -> Result<Vec<Vec<Completion>>> {
    let mut groups: Vec<Vec<Completion>> = prompts.iter().map(|_| Vec::new()).collect();
    for task in [Task::Chat, Task::Describe, Task::Paint, Task::ThinkPaint] {
        let of_task = prompts.iter().enumerate();
        let of_task = of_task.filter(|(_, prompt)| prompt.example.task == task);
        let asked: Vec<(usize, u64)> = of_task
            .flat_map(|(index, _)| {
                let sample = move |sample| (index, (index as u64) << 32 | sample as u64);
                (0..sampling.group).map(sample)
            })
            .collect();
        if asked.is_empty() {
            continue;
        }
        let mut sampled = sample(model, prompts, &asked, task, sampling)?;
        let replies: Vec<(&Example, Reply<'_>)> = asked
            .iter()
            .zip(&sampled)
            .map(|(&(index, _), completion)| (&prompts[index].example, completion.reply()))
            .collect();
        let verdicts = judges.judge(task, &replies);
        for (completion, verdict) in sampled.iter_mut().zip(verdicts) {
            completion.verdict = verdict;
        }
        for (&(index, _), completion) in asked.iter().zip(sampled) {
            groups[index].push(completion);
        }
    }
    Ok(groups)
}

/// One completion for each `(prompt, number of its draws)`.
fn sample(
    model: &Mmada,
    prompts: &[Prompt],
    asked: &[(usize, u64)],
    task: Task,
    sampling: &Sampling,
) -> Result<Vec<Completion>> {
    let (codec, layout, defaults) = (model.codec(), model.layout(), model.defaults());
    let hot = |own: &TextOptions| TextOptions {
        seed: sampling.seed,
        ..sampling.of_text().text(own)
    };
    let of_pictures = Overrides {
        sampler: sampling.sampler,
        guidance: sampling.guidance,
        // The policy draws as it is: a sharpened one would not be the one that is improved.
        token_temperature: Some(1.0),
        revisions: Some(0),
        best_of: Some(1),
        ..Overrides::default()
    };
    let paint = PaintOptions {
        seed: sampling.seed,
        ..of_pictures.paint(&defaults.paint)
    };
    let example = |index: usize| &prompts[index].example;
    let laid = |sequence: mmada_tokens::Result<Sequence>| sequence.map_err(Error::data);
    let image = |codes: &[u32]| -> Vec<u32> {
        codes
            .iter()
            .map(|&code| model.vocab().image_id(code))
            .collect()
    };
    let completion = |sequence, text, picture| Completion {
        sequence,
        text,
        picture,
        verdict: Err("it is not judged yet".to_owned()),
    };
    let mut made = Vec::with_capacity(asked.len());
    match task {
        Task::Text => {}
        Task::Chat => {
            let requests = asked.iter().map(|&(index, number)| ChatRequest {
                messages: &example(index).messages,
                example: number,
            });
            let requests: Vec<_> = requests.collect();
            let run = model.chat_many(&requests, &hot(&defaults.text));
            let replies = run.and_then(|run| run.finish()).map_err(Error::model)?;
            for (&(index, _), reply) in asked.iter().zip(replies) {
                let prompt = laid(
                    codec
                        .chat_ids(&example(index).messages)
                        .and_then(|prompt| layout.chat(&prompt, &reply.ids, Tail::None)),
                )?;
                made.push(completion(prompt, Some(reply.text), None));
            }
        }
        Task::Describe => {
            let nothing = Seen::nothing();
            let seen = |index: usize| prompts[index].seen.as_ref().unwrap_or(&nothing);
            let requests = asked.iter().map(|&(index, number)| DescribeRequest {
                seen: seen(index),
                question: &example(index).prompt,
                example: number,
            });
            let requests: Vec<_> = requests.collect();
            let run = model.describe_many(&requests, &hot(&defaults.describe));
            let replies = run.and_then(|run| run.finish()).map_err(Error::model)?;
            for (&(index, _), reply) in asked.iter().zip(replies) {
                let row = codec.prompt(&example(index).prompt).and_then(|prompt| {
                    layout.describe(&image(&seen(index).codes), &prompt, &reply.ids, Tail::None)
                });
                made.push(completion(laid(row)?, Some(reply.text), None));
            }
        }
        Task::Paint => {
            let requests = asked.iter().map(|&(index, number)| PaintRequest {
                prompt: &example(index).prompt,
                example: number,
            });
            let requests: Vec<_> = requests.collect();
            let run = model.paint_many(&requests, &paint);
            let paintings = run.and_then(|run| run.finish()).map_err(Error::model)?;
            for (&(index, _), painting) in asked.iter().zip(paintings) {
                let row = codec.text(example(index).prompt.trim());
                let row = row.and_then(|prompt| layout.paint(&prompt, &image(&painting.codes)));
                made.push(completion(laid(row)?, None, Some(painting.picture)));
            }
        }
        Task::ThinkPaint => {
            let requests = asked.iter().map(|&(index, number)| PaintRequest {
                prompt: &example(index).prompt,
                example: number,
            });
            let requests: Vec<_> = requests.collect();
            let thought = match sampling.thoughts {
                Thoughts::Scored => hot(&defaults.thought),
                Thoughts::Given => TextOptions {
                    seed: sampling.seed,
                    ..defaults.thought.clone()
                },
            };
            let run = model.think_paint_many(&requests, &thought, &paint);
            let (thoughts, paintings) = run.and_then(|run| run.finish()).map_err(Error::model)?;
            for ((&(index, _), reply), painting) in asked.iter().zip(thoughts).zip(paintings) {
                let words = defaults.to_think_about(&example(index).prompt);
                // Of a thought that fills its canvas nothing is left for a tail.
                let tail = match defaults.thought.length {
                    length if reply.ids.len() < length => Tail::To(length),
                    _ => Tail::None,
                };
                let row = codec.prompt(&words).and_then(|prompt| {
                    layout.think_paint(&prompt, &reply.ids, &image(&painting.codes), tail)
                });
                made.push(completion(
                    laid(row)?,
                    Some(reply.text),
                    Some(painting.picture),
                ));
            }
        }
    }
    Ok(made)
}

/// Negative log-likelihoods of the masked tokens of all estimates, one after the other.
///
/// # Shapes
/// `[masked tokens]`, f32, with gradient where the model is trained.
pub(super) fn nll(model: &Mmada, estimates: &[Estimate]) -> Result<Tensor> {
    let mut rows = Rows::default();
    let (mut wanted, mut targets, mut temperatures) = (Vec::new(), Vec::new(), Vec::new());
    for estimate in estimates {
        let start = push_pieces(&estimate.ids, &estimate.pieces, &mut rows);
        temperatures.resize(
            wanted.len() + estimate.positions.len(),
            estimate.temperature,
        );
        wanted.extend(estimate.positions.iter().map(|position| start + position));
        targets.extend_from_slice(&estimate.targets);
    }
    let transformer = model.transformer();
    Ok(transformer.tempered_nll(&rows, &wanted, &targets, &temperatures)?)
}

/// The estimates cut into forwards of at most `budget` rows, or of one estimate that has more.
pub(super) fn forwards(estimates: &[Estimate], budget: usize) -> impl Iterator<Item = &[Estimate]> {
    let mut rest = estimates;
    std::iter::from_fn(move || {
        let mut rows = 0;
        let fit = rest.iter().take_while(|estimate| {
            rows += estimate.ids.len();
            rows <= budget
        });
        let (now, later) = rest.split_at(fit.count().max(1).min(rest.len()));
        rest = later;
        (!now.is_empty()).then_some(now)
    })
}

/// Log-likelihoods of each estimate's masked tokens, in forwards of at most the model's row budget.
///
/// # Errors
/// Those of the network.
pub fn log_likelihoods(model: &Mmada, estimates: &[Estimate]) -> Result<Vec<Vec<f32>>> {
    let mut results = Vec::with_capacity(estimates.len());
    for now in forwards(estimates, model.row_budget()) {
        let values = nll(model, now)?.to_vec1::<f32>()?;
        let mut values = values.into_iter().map(|nll| -nll);
        for estimate in now {
            results.push(values.by_ref().take(estimate.positions.len()).collect());
        }
    }
    Ok(results)
}

/// The seed of a rollout's draws, which sampling combines with prompt and sample. Every round of
/// new prompts has its own.
pub fn rollout_seed(at: Moment, round: usize) -> u64 {
    let mut stream = at.key(round, Purpose::Rollout).stream();
    stream.below(u32::MAX as usize) as u64
}
