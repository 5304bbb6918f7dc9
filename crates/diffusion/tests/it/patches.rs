//! Pictures that are looked at without some of their tokens.

use mmada_diffusion::corruption::{Window, drop_patches};
use mmada_diffusion::{Corruption, Noised};
use mmada_tensor::Rows;
use mmada_tensor::random::{Key, Purpose, Stream};
use mmada_tokens::{Sequence, SpanKind, Task};

const MASK: u32 = 999;
const ANSWER: std::ops::Range<u32> = 70..76;

fn stream(example: u64) -> Stream {
    Key::new(4, Purpose::PatchDropout).example(example).stream()
}

/// A frame, 64 tokens of a picture, a question and an answer; ids are their positions.
fn described() -> Sequence {
    let mut sequence = Sequence::new(Task::Describe);
    for (kind, ids) in [
        (SpanKind::Frame, 0..1),
        (SpanKind::Image, 1..65),
        (SpanKind::Frame, 65..66),
        (SpanKind::Prompt, 66..70),
        (SpanKind::Answer, ANSWER),
    ] {
        sequence.push(kind, &ids.collect::<Vec<u32>>());
    }
    sequence
}

#[test]
fn only_tokens_of_the_picture_are_left_out() {
    let mut left = Vec::new();
    for example in 0..400 {
        let (rest, origins) = drop_patches(&described(), 0.5, &mut stream(example));
        // Ids are positions.
        assert_eq!(rest.ids, origins);
        let is_of_picture = |id: &&u32| (1..65).contains(*id);
        let others = rest.ids.iter().filter(|id| !is_of_picture(id)).count();
        assert_eq!(others, described().ids.len() - 64);
        let image = rest.positions(SpanKind::Image).map(|place| rest.ids[place]);
        assert!(image.eq(rest.ids.iter().filter(is_of_picture).copied()));
        let answer = rest.positions(SpanKind::Answer);
        assert!(answer.map(|place| rest.ids[place]).eq(ANSWER));
        left.push(rest.positions(SpanKind::Image).count());
    }
    let mean = left.iter().sum::<usize>() as f32 / (64.0 * 400.0);
    assert!((mean - 0.75).abs() < 0.02, "a quarter on average: {mean}");
    let (most, least) = (left.iter().max().unwrap(), left.iter().min().unwrap());
    assert!(*most >= 62 && *least < 40, "from {least} to {most} of 64");

    let (whole, origins) = drop_patches(&described(), 0.0, &mut stream(0));
    assert_eq!((whole, origins.len()), (described(), 76));
    let (blind, origins) = drop_patches(&described(), 1.0, &mut stream(1));
    assert!(blind.ids.len() == origins.len() && origins.len() < 76);
}

/// Everything stands where it would with the whole picture, and sees what is left of it.
#[test]
fn what_is_left_keeps_its_position() {
    for (by_token, ahead) in [(1.0, 0), (0.0, 3)] {
        let corruption = Corruption {
            window: Some(Window {
                length: 4,
                ahead: Some(ahead),
                share: 1.0,
                tiled: 1.0,
                by_token,
            }),
            ..Corruption::default()
        };
        for example in 0..20 {
            let (rest, origins) = drop_patches(&described(), 1.0, &mut stream(example));
            let noised = corruption.corrupt(&rest, MASK, 0.5, &mut stream(example));
            let placed = Noised {
                origins: origins.clone(),
                ..noised.clone()
            };
            assert_eq!(noised.left_out(), 0);
            assert_eq!(placed.left_out() as usize, 76 - rest.ids.len());

            let (mut plain, mut rows) = (Rows::pack([[7, 7]]), Rows::pack([[7, 7]]));
            assert_eq!(noised.push_onto(&mut plain), placed.push_onto(&mut rows));
            assert_eq!(rows.segments(), plain.segments(), "what sees what");
            assert_eq!(rows.ids, plain.ids);
            assert_eq!(rows.positions[..2], [0, 1], "of the rows before");
            for (id, position) in rows.ids.iter().zip(&rows.positions).skip(2) {
                assert!(*id == MASK || id == position, "{id} stands at {position}");
            }
            for target in &placed.targets {
                assert_eq!(rows.positions[2 + target.position], target.id);
            }
            let last = rows.positions.iter().max();
            assert_eq!(last, Some(&(75 + ahead as u32)), "masks ahead go on");
        }
    }
}
