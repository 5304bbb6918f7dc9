//! Streams replay.

use mmada_tensor::random::{Key, Purpose};

#[test]
fn the_same_key_replays_the_same_numbers() {
    let key = Key::new(7, Purpose::Token).step(3).example(11);
    let draw = |key: Key| {
        let mut stream = key.stream();
        (0..50)
            .map(|_| stream.uniform().to_bits())
            .collect::<Vec<_>>()
    };
    assert_eq!(draw(key), draw(key));
    let others = [
        Key { seed: 8, ..key },
        key.step(4),
        key.example(12),
        Key {
            purpose: Purpose::Position,
            ..key
        },
    ];
    for other in others {
        assert_ne!(draw(key), draw(other), "{other:?}");
    }
}

#[test]
fn draws_have_the_right_distribution() {
    let mut stream = Key::new(1, Purpose::Weights).stream();
    let n = 100_000;
    let normals: Vec<f64> = (0..n).map(|_| f64::from(stream.normal())).collect();
    let mean = normals.iter().sum::<f64>() / f64::from(n);
    let variance = normals.iter().map(|x| x * x).sum::<f64>() / f64::from(n);
    assert!(
        mean.abs() < 0.02 && (variance - 1.0).abs() < 0.02,
        "{mean} {variance}"
    );
    assert!((0..n).all(|_| (0.0..1.0).contains(&stream.uniform())));
    assert!((0..n).all(|_| stream.below(7) < 7));
    let mut items: Vec<u32> = (0..100).collect();
    stream.shuffle(&mut items);
    assert_ne!(items, (0..100).collect::<Vec<_>>());
    items.sort_unstable();
    assert_eq!(items, (0..100).collect::<Vec<_>>());
}
