//! A denoiser without a network: logits are a function of the sequence, the position and the id.

use mmada_diffusion::{Canvas, Denoiser, Draw, Noise, SeededNoise};
use mmada_tensor::{Device, Result, Rows, Tensor, Want};

pub(crate) type Rule = fn(sequence: &[u32], position: usize, id: u32) -> f32;

/// Remembers what it was asked.
pub(crate) struct Fake {
    pub(crate) rule: Rule,
    pub(crate) asked: Vec<(Rows, Want)>,
}

impl Fake {
    pub(crate) fn new(rule: Rule) -> Self {
        let asked = Vec::new();
        Self { rule, asked }
    }
}

impl Denoiser for Fake {
    fn logits(&mut self, rows: &Rows, want: &Want) -> Result<Tensor> {
        self.asked.push((rows.clone(), want.clone()));
        let mut values = Vec::new();
        for &row in &want.rows {
            let own = rows.sequences.iter().find(|s| s.contains(&row)).unwrap();
            let (ids, position) = (&rows.ids[own.clone()], row - own.start);
            values.extend(
                want.vocab
                    .clone()
                    .map(|id| (self.rule)(ids, position, id as u32)),
            );
        }
        let shape = (want.rows.len(), want.vocab.len());
        Ok(Tensor::from_vec(values, shape, &Device::Cpu)?)
    }
}

/// Depends on every token of the sequence, so that any leak between sequences shows.
pub(crate) fn tangled(sequence: &[u32], position: usize, id: u32) -> f32 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for word in sequence.iter().copied().chain([position as u32, id]) {
        hash = (hash ^ u64::from(word)).wrapping_mul(0x0100_0000_01b3);
        hash ^= hash >> 29;
    }
    (hash % 10_007) as f32 / 2_000.0
}

/// Every id is as likely as any other.
pub(crate) fn uniform(_: &[u32], _: usize, _: u32) -> f32 {
    0.0
}

/// The same numbers for every draw of a kind.
pub(crate) struct Constant(pub(crate) f64);

impl Noise for Constant {
    fn uniforms(&mut self, _: Draw, out: &mut [f64]) {
        out.fill(self.0);
    }
}

pub(crate) fn seeded(seed: u64) -> Box<dyn Noise> {
    Box::new(SeededNoise(seed))
}

pub(crate) fn masked(canvas: &Canvas, mask: u32) -> usize {
    canvas.ids().iter().filter(|&&id| id == mask).count()
}
