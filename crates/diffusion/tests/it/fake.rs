//! A denoiser without a network: logits are a function of the sequence, the position and the id.

use mmada_diffusion::{
    Allowed, CacheRule, Canvas, Commit, Denoiser, Draw, Noise, Rest, SeededNoise, Stop, TextPlan,
};
use mmada_tensor::{Device, Recall, Result, Rows, Segment, Tensor, Want};

pub(crate) type Rule = fn(sequence: &[u32], position: usize, id: u32) -> f32;

/// Remembers what it was asked, and the ids and positions of rows that were active once.
pub(crate) struct Fake {
    pub(crate) rule: Rule,
    pub(crate) asked: Vec<(Rows, Want)>,
    memory: Vec<(u32, u32)>,
}

impl Fake {
    pub(crate) fn new(rule: Rule) -> Self {
        Self {
            rule,
            asked: Vec::new(),
            memory: Vec::new(),
        }
    }

    /// The sequence as a row sees it: a stand-in sees itself in place of the token it hides.
    fn seen(&self, rows: &Rows, recall: &Recall, row: usize) -> Vec<u32> {
        let of_row = |s: &&Segment| s.queries.contains(&row);
        let segment = recall.segments.iter().find(of_row).unwrap();
        let start = segment.keys.start;
        let is_own = |s: &&Segment| s.keys.start == start && s.hidden.is_none();
        // Of those that see ever more of a sequence, the one that sees all of it.
        let own = recall.segments.iter().rfind(is_own).unwrap();
        let remembered = &self.memory[own.keys.clone()];
        let mut places = remembered.iter().zip(0..);
        assert!(
            places.all(|(&(_, position), place)| position == place),
            "a row holds what was computed for another position"
        );
        let mut ids: Vec<u32> = remembered.iter().map(|&(id, _)| id).collect();
        if let Some(hidden) = segment.hidden_from(row) {
            ids[hidden - start] = rows.ids[row];
        }
        ids
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

    fn logits_recalled(&mut self, rows: &Rows, recall: &Recall, want: &Want) -> Result<Tensor> {
        self.asked.push((rows.clone(), want.clone()));
        assert_eq!(recall.places.len(), rows.len());
        self.memory.resize(recall.capacity, (u32::MAX, u32::MAX));
        let computed = rows.ids.iter().zip(&rows.positions);
        for ((&id, &position), &place) in computed.zip(&recall.places) {
            self.memory[place] = (id, position);
        }
        let mut values = Vec::new();
        for &row in &want.rows {
            let ids = self.seen(rows, recall, row);
            assert!(
                !ids.contains(&u32::MAX),
                "a row was seen before it was active"
            );
            let logit = |id| (self.rule)(&ids, rows.positions[row] as usize, id as u32);
            values.extend(want.vocab.clone().map(logit));
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

/// Greedy text of ten ids, the surest first, to the end of the canvas.
pub(crate) fn text_plan(steps: usize, block_length: usize) -> TextPlan {
    TextPlan {
        steps,
        block_length,
        ahead: None,
        temperature: 0.0,
        commit: Commit::LowConfidence,
        cache: CacheRule::Off,
        allowed: Allowed {
            range: 0..10,
            banned: Vec::new(),
            banned_at: Vec::new(),
        },
        stop: Stop::Never,
        rest: Rest::Masked,
    }
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
