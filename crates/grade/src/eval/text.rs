//! Benchmarks whose answers are texts: captions, questions about pictures, worded problems.

use std::collections::{BTreeMap, HashMap};

use mmada_data::ImageBytes;
use mmada_data::packs::{AnswerKind, CAPTION_PROMPT, KIND_PROMPT};
use mmada_model::{ChatRequest, DescribeRequest, Effort, Message, Overrides, Seen, TextOptions};

use super::{Benchmark, Context, Example, OnProgress, Report, decode, finish};
use crate::error::Result;
use crate::grader::{ExactAnswer, ExactText, Grader, PlainText, Reply, ThinkFormat, Truth};
use crate::interval::Score;

pub(super) fn caption(context: &Context, on_progress: OnProgress) -> Result<Report> {
    let items = context.items(context.pack.captions(context.split)?)?;
    if items.is_empty() {
        return Err(context.nothing(Benchmark::Caption, "captioned pictures"));
    }
    let asked = items
        .iter()
        .map(|item| (&*item.id, &item.image, CAPTION_PROMPT));
    let (replies, effort) = ask(context, &asked.collect::<Vec<_>>(), on_progress)?;
    let (mut exact, mut plain, mut examples) = (Vec::new(), Vec::new(), Vec::new());
    for (item, reply) in items.iter().zip(replies) {
        let truth = Truth::Text(&item.caption);
        exact.push(is_right(&ExactText, &reply, truth));
        plain.push(is_right(&PlainText, &reply, truth));
        examples.push(Example {
            input: item.id.clone(),
            expected: item.caption.clone(),
            is_right: plain.last() == Some(&true),
            got: reply,
        });
    }
    let n = plain.len();
    let scores = vec![
        Score::share("normalised", plain),
        Score::share("exact", exact),
    ];
    let report = context.report(Benchmark::Caption, n, scores, examples);
    Ok(context.sampled(report, effort))
}

pub(super) fn kind(context: &Context, on_progress: OnProgress) -> Result<Report> {
    let items = context.items(context.pack.kinds(context.split)?)?;
    if items.is_empty() {
        return Err(context.nothing(Benchmark::Kind, "pictures with group and subgroup"));
    }
    let asked = items
        .iter()
        .map(|item| (&*item.id, &item.image, KIND_PROMPT));
    let (replies, effort) = ask(context, &asked.collect::<Vec<_>>(), on_progress)?;
    let (mut groups, mut subgroups, mut examples) = (Vec::new(), Vec::new(), Vec::new());
    for (item, reply) in items.iter().zip(replies) {
        // What is not in two parts names a group alone.
        let (group, subgroup) = reply.split_once(": ").unwrap_or((&reply, ""));
        groups.push(is_right(&PlainText, group, Truth::Text(&item.group)));
        let is_right = is_right(&PlainText, subgroup, Truth::Text(&item.subgroup));
        subgroups.push(is_right);
        examples.push(Example {
            input: item.id.clone(),
            expected: format!("{}: {}", item.group, item.subgroup),
            is_right,
            got: reply,
        });
    }
    let n = groups.len();
    let scores = vec![
        Score::share("group", groups),
        Score::share("subgroup", subgroups),
    ];
    let report = context.report(Benchmark::Kind, n, scores, examples);
    Ok(context.sampled(report, effort))
}

pub(super) fn vqa(context: &Context, on_progress: OnProgress) -> Result<Report> {
    let items = context.items(context.pack.questions(context.split)?)?;
    if items.is_empty() {
        return Err(context.nothing(Benchmark::Vqa, "questions about pictures"));
    }
    let asked = items
        .iter()
        .map(|item| (&*item.id, &item.image, &*item.question));
    let (replies, effort) = ask(context, &asked.collect::<Vec<_>>(), on_progress)?;
    let (mut judged, mut examples) = (Vec::new(), Vec::new());
    for (item, reply) in items.iter().zip(replies) {
        let is_right = is_right(&PlainText, &reply, Truth::Text(&item.answer));
        judged.push((item.kind, is_right));
        examples.push(Example {
            input: format!("{}: {}", item.id, item.question),
            expected: item.answer.clone(),
            got: reply,
            is_right,
        });
    }
    let of = |kind: AnswerKind| {
        let judged = judged.iter().filter(move |(of, _)| *of == kind);
        judged.map(|(_, is_right)| *is_right)
    };
    let scores = vec![
        Score::share("overall", judged.iter().map(|(_, is_right)| *is_right)),
        Score::share("yes_no", of(AnswerKind::YesNo)),
        Score::share("open", of(AnswerKind::Open)),
    ];
    let report = context.report(Benchmark::Vqa, judged.len(), scores, examples);
    Ok(context.sampled(report, effort))
}

/// Name of the item, its picture, and what is asked about it.
type Asked<'a> = (&'a str, &'a ImageBytes, &'a str);

/// What the model says to each question.
fn ask(
    context: &Context,
    asked: &[Asked],
    on_progress: OnProgress,
) -> Result<(Vec<String>, Effort)> {
    let options = text_options(context, &context.model.defaults().describe);
    let (mut sight, mut effort) = (Sight::default(), Effort::default());
    let mut said = Vec::new();
    context.groups(asked, on_progress, |first, group, told| {
        sight.look(context, group.iter().map(|&(id, image, _)| (id, image)))?;
        let requests = group.iter().zip(first..);
        let requests = requests.filter_map(|(&(_, image, question), example)| {
            Some(DescribeRequest {
                seen: sight.seen(image)?,
                question,
                example,
            })
        });
        let requests: Vec<_> = requests.collect();
        let run = context.model.describe_many(&requests, &options)?;
        let replies = finish(run, &mut effort, told)?;
        said.extend(replies.into_iter().map(|reply| reply.text));
        Ok(())
    })?;
    Ok((said, effort))
}

pub(super) fn reasoning(context: &Context, on_progress: OnProgress) -> Result<Report> {
    let items = context.items(context.pack.reasoning(context.split)?)?;
    if items.is_empty() {
        return Err(context.nothing(Benchmark::Reasoning, "problems with an answer"));
    }
    let options = text_options(context, &context.model.defaults().text);
    let (mut answers, mut formats, mut examples) = (Vec::new(), Vec::new(), Vec::new());
    let mut kinds: BTreeMap<&str, Vec<bool>> = BTreeMap::new();
    let mut effort = Effort::default();
    context.groups(&items, on_progress, |first, group, told| {
        let messages: Vec<_> = group
            .iter()
            .map(|item| [Message::user(&item.question)])
            .collect();
        let requests = messages.iter().zip(first..);
        let requests = requests.map(|(messages, example)| ChatRequest { messages, example });
        let requests: Vec<_> = requests.collect();
        let run = context.model.chat_many(&requests, &options)?;
        let replies = finish(run, &mut effort, told)?;
        for (at, reply) in replies.into_iter().enumerate() {
            let item = &items[first as usize + at];
            let answer = is_right(&ExactAnswer, &reply.text, Truth::Text(&item.answer));
            formats.push(is_right(&ThinkFormat, &reply.text, Truth::Unknown));
            answers.push(answer);
            if let Some(kind) = &item.template {
                kinds.entry(kind).or_default().push(answer);
            }
            examples.push(Example {
                input: item.question.clone(),
                expected: item.answer.clone(),
                got: reply.text,
                is_right: answer,
            });
        }
        Ok(())
    })?;
    let n = answers.len();
    let mut scores = vec![
        Score::share("answer", answers),
        Score::share("format", formats),
    ];
    let per_kind = kinds.into_iter();
    scores.extend(per_kind.map(|(kind, right)| Score::share(format!("answer/{kind}"), right)));
    let report = context.report(Benchmark::Reasoning, n, scores, examples);
    Ok(context.sampled(report, effort))
}

/// The model's own options with what the caller wants otherwise.
fn text_options(context: &Context, own: &TextOptions) -> TextOptions {
    let wanted = Overrides {
        guidance: None,
        ..context.options.overrides
    };
    TextOptions {
        seed: context.options.seed,
        ..wanted.text(own)
    }
}

fn is_right(grader: &dyn Grader, reply: &str, truth: Truth) -> bool {
    grader.grade(Reply::Text(reply), truth) == 1.0
}

/// Pictures already encoded: questions share them.
#[derive(Default)]
struct Sight(HashMap<u64, Seen>);

impl Sight {
    /// Encodes what is new.
    fn look<'a>(
        &mut self,
        context: &Context,
        pictures: impl Iterator<Item = (&'a str, &'a ImageBytes)>,
    ) -> Result<()> {
        let (mut ids, mut new) = (Vec::new(), Vec::new());
        for (item, image) in pictures {
            if !self.0.contains_key(&image.id()) && !ids.contains(&image.id()) {
                ids.push(image.id());
                // At the model's size: photographs are large, and a group of them is held at once.
                new.push(context.model.fitted(&decode(item, image)?));
            }
        }
        let new: Vec<_> = new.iter().collect();
        let seen = context.model.look_often(&new, context.options.looks)?;
        self.0.extend(ids.into_iter().zip(seen));
        Ok(())
    }

    /// A picture that was looked at.
    fn seen(&self, image: &ImageBytes) -> Option<&Seen> {
        self.0.get(&image.id())
    }
}
