//! What the policy is asked: examples whose task has rewards, the pictures of questions as codes.

use mmada_model::{Mmada, Seen};
use mmada_tokens::Task;

use super::reward::Rewards;
use super::rollout::Prompt;
use crate::stock::Stock;
use crate::{Error, Result};

/// Examples left out in a row before the data is taken to hold no prompt.
const MOST_LEFT_OUT: u64 = 100_000;

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
    while prompts.len() < count {
        if stock.left_out() - before > MOST_LEFT_OUT {
            let what = "no example makes a prompt; check objective.rewards, \
                        the tasks of the views and the pictures";
            return Err(Error::Data(what.to_owned()));
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
        if lacks_picture || rewards.of(example.task).is_empty() {
            let reason = "no reward, or no readable picture".to_owned();
            stock.leave_out(&example, reason);
            continue;
        }
        prompts.push(Prompt { example, seen });
    }
    Ok(prompts)
}
