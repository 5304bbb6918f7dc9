//! What the policy is asked: examples whose task has rewards, the pictures of questions as codes.

use mmada_model::{ChatRequest, DescribeRequest, Mmada, PaintRequest, Seen};
use mmada_tokens::Task;

use super::reward::Rewards;
use super::rollout::Prompt;
use crate::stock::{MOST_LEFT_OUT, Stock};
use crate::{Error, Result};

/// The next `count` prompts.
///
/// # Errors
/// When the data cannot be read, or no example makes a prompt.
pub(super) fn draw(
    stock: &mut Stock,
    model: &Mmada,
    rewards: &Rewards,
    count: usize,
) -> Result<Vec<Prompt>> {
    let mut prompts = Vec::with_capacity(count);
    let before = stock.left_out();
    let mut last = String::new();
    while prompts.len() < count {
        if stock.left_out() - before > MOST_LEFT_OUT {
            return Err(Error::Data(format!(
                "no example makes a prompt ({last}); check objective.rewards, \
                 the tasks of the views and the pictures"
            )));
        }
        let example = stock.next()?;
        let seen = match (&example.image, example.task) {
            (Some(image), Task::Describe) => {
                let shown = &model.defaults().image;
                let grid = model.grid(shown.width, shown.height);
                let grid = grid.map_err(Error::model)?;
                let codes = stock.codes(image, model)?.map(<[u32]>::to_vec);
                codes.map(|codes| Seen {
                    codes,
                    grid,
                    again: Vec::new(),
                })
            }
            _ => None,
        };
        let lacks_picture = example.task == Task::Describe && seen.is_none();
        let prompt = Prompt { example, seen };
        let asked = match lacks_picture || rewards.of(prompt.example.task).is_empty() {
            true => Err("no reward, or no readable picture".to_owned()),
            false => ask(model, &prompt),
        };
        match asked {
            Ok(()) => prompts.push(prompt),
            Err(reason) => {
                stock.leave_out(&prompt.example, reason.clone());
                last = reason;
            }
        }
    }
    Ok(prompts)
}

/// Lays a prompt out as a rollout does, which refuses one that is empty or too long.
fn ask(model: &Mmada, Prompt { example, seen }: &Prompt) -> std::result::Result<(), String> {
    let defaults = model.defaults();
    let painted = PaintRequest {
        prompt: &example.prompt,
        example: 0,
    };
    let laid = match (example.task, seen) {
        (Task::Text, _) | (Task::Describe, None) => return Err("it asks for nothing".to_owned()),
        (Task::Describe, Some(_)) if example.messages.len() > 1 => {
            return Err("it goes on from an earlier message; questions stand alone".to_owned());
        }
        (Task::Describe, Some(_)) if example.prompt.trim().is_empty() => {
            return Err("its question has no words".to_owned());
        }
        (Task::Describe, Some(seen)) => {
            let request = DescribeRequest {
                seen,
                question: &example.prompt,
                example: 0,
            };
            let run = model.describe_many(&[request], &defaults.describe);
            run.map(|_| ())
        }
        (Task::Chat, _) => {
            let request = ChatRequest {
                messages: &example.messages,
                example: 0,
            };
            model.chat_many(&[request], &defaults.text).map(|_| ())
        }
        (Task::Paint, _) => model.paint_many(&[painted], &defaults.paint).map(|_| ()),
        (Task::ThinkPaint, _) => {
            let (thought, paint) = (&defaults.thought, &defaults.paint);
            let run = model.think_paint_many(&[painted], thought, paint);
            run.map(|_| ())
        }
    };
    laid.map_err(|error| error.to_string())
}
