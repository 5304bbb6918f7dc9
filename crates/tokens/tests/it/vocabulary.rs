//! Vocabulary ranges and what they refuse.

use mmada_tokens::{Error, Vocab};

#[test]
fn codes_and_ids_are_inverse() {
    let vocab = Vocab::published();
    for code in [0, 1, vocab.codes() - 1] {
        assert_eq!(vocab.code(vocab.image_id(code)), Some(code));
    }
    assert_eq!(vocab.code(vocab.special.eos), None);
    assert_eq!(vocab.code(vocab.image.end), None);
    assert!(!vocab.is_image(vocab.text.end - 1));
    assert_eq!(Vocab::llada().codes(), 0);
}

#[test]
fn banned_text_spares_the_ends() {
    let vocab = Vocab::published();
    let banned = vocab.banned_text();
    assert!(banned.is_sorted());
    for id in [
        vocab.special.mask,
        vocab.special.bos,
        vocab.special.t2i,
        vocab.special.image_pad,
        vocab.special.start_header,
    ] {
        assert!(banned.contains(&id));
    }
    for id in [vocab.special.eos, vocab.special.eot, 0] {
        assert!(!banned.contains(&id));
    }
}

#[test]
fn contradictions_are_refused() {
    let broken: [fn(&mut Vocab); 6] = [
        |vocab| vocab.image.start -= 1,
        |vocab| vocab.rows = vocab.image.end - 1,
        |vocab| vocab.special.mask = vocab.text.end,
        |vocab| vocab.special.soi = vocab.special.eoi,
        |vocab| vocab.text.end = 0,
        |vocab| vocab.image.end = 0,
    ];
    for break_it in broken {
        let mut vocab = Vocab::published();
        break_it(&mut vocab);
        assert!(
            matches!(vocab.validate(), Err(Error::Vocab(_))),
            "{vocab:?}"
        );
    }
}
