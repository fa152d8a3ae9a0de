//! Runs: a plan and a list of operations, from a seed or from a fuzzer's input; and the smallest
//! list that still fails.

use std::{
    any::Any,
    fmt,
    ops::AddAssign,
    panic::{AssertUnwindSafe, catch_unwind},
};

use crate::{
    broken::{Broken, Invariant},
    op::{Choices, Input, Op},
    plan::Plan,
    rng::Rng,
    tamper::Tamper,
    world::World,
};

/// Operations a seed's run has.
pub const OPERATIONS: usize = 200;

/// Seeds of which one is a hostile world.
const HOSTILE_ONE_IN: u32 = 8;

/// A world and what happens in it.
#[derive(Clone, Debug)]
pub struct Run {
    /// The plan of the world.
    pub plan: Plan,
    /// The operations.
    pub ops: Vec<Op>,
    /// The fault that the referee is shown and that was not written.
    pub tamper: Option<Tamper>,
}

impl AddAssign for Totals {
    fn add_assign(&mut self, other: Self) {
        self.operations += other.operations;
        self.requests += other.requests;
        self.items += other.items;
        self.cuts += other.cuts;
        self.cuts_in_handshake += other.cuts_in_handshake;
        self.resumes += other.resumes;
        self.takeovers += other.takeovers;
        self.windows_over += other.windows_over;
        self.held += other.held;
        self.replayed += other.replayed;
        self.unleased += other.unleased;
        self.closed += other.closed;
        self.wire ^= other.wire;
    }
}

/// The figures of a run that went well.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Operations.
    pub operations: u64,
    /// Requests that reached an application.
    pub requests: u64,
    /// Items that reached one.
    pub items: u64,
    /// Transports lost, and those of them that were lost before RESUME was answered.
    pub cuts: u64,
    /// See `cuts`.
    pub cuts_in_handshake: u64,
    /// Times a session was resumed.
    pub resumes: u64,
    /// Those of them of which the server had not known that it needs one.
    pub takeovers: u64,
    /// Sessions that ended because no transport came in time.
    pub windows_over: u64,
    /// Sides that could not go on before the other had acknowledged what it was sent.
    pub held: u64,
    /// Frames written again.
    pub replayed: u64,
    /// Requests refused for want of a lease.
    pub unleased: u64,
    /// Connections that ended.
    pub closed: u64,
    /// A digest of every byte written.
    pub wire: u64,
}

impl Run {
    /// The run of a seed, with so many operations.
    pub fn seeded(seed: u64, operations: usize) -> Self {
        let mut rng = Rng::new(seed);
        let hostile = rng.one_in(HOSTILE_ONE_IN);
        let plan = Plan::arbitrary(&mut rng, hostile);
        let mut ops = beginning(&mut rng);
        ops.extend((0..operations).map(|_| Op::arbitrary(&mut rng, hostile)));
        Self { plan, ops, tamper: None }
    }

    /// The run that a fuzzer's input says.
    pub fn from_bytes(bytes: &[u8]) -> Self {
        let mut input = Input(bytes);
        let hostile = Choices::one_in(&mut input, HOSTILE_ONE_IN);
        let plan = Plan::arbitrary(&mut input, hostile);
        let mut ops = beginning(&mut input);
        while !input.0.is_empty() {
            ops.push(Op::arbitrary(&mut input, hostile));
        }
        Self { plan, ops, tamper: None }
    }

    /// Runs it, panics and all.
    ///
    /// # Errors
    /// [`Broken`] says what did not hold.
    pub fn go(&self) -> Result<Totals, Broken> {
        let mut world = World::new(&self.plan);
        if let Some(tamper) = self.tamper {
            world = world.tampered(tamper);
        }
        for op in &self.ops {
            world.apply(*op)?;
        }
        world.settle()?;
        Ok(Totals { operations: self.ops.len() as u64, ..world.totals() })
    }

    /// Runs it; a panic is a broken invariant too.
    ///
    /// # Errors
    /// [`Broken`] says what did not hold.
    pub fn try_go(&self) -> Result<Totals, Broken> {
        catch_unwind(AssertUnwindSafe(|| self.go())).unwrap_or_else(|panic| {
            Err(Broken { invariant: Invariant::Panic, detail: said(&*panic) })
        })
    }

    /// The smallest list of operations found that breaks the same invariant in the same way.
    #[must_use]
    pub fn shrink(&self, broken: &Broken) -> Self {
        let fails = |ops: &[Op]| {
            let run = Self { ops: ops.to_vec(), ..self.clone() };
            run.try_go().is_err_and(|other| other.is_like(broken))
        };
        let mut ops = self.ops.clone();
        let mut step = ops.len().div_ceil(2).max(1);
        loop {
            let mut at = 0;
            let before = ops.len();
            while at < ops.len() {
                let mut fewer = ops.clone();
                fewer.drain(at..ops.len().min(at + step));
                if fails(&fewer) {
                    ops = fewer;
                } else {
                    at += step;
                }
            }
            if step == 1 && ops.len() == before {
                break;
            }
            step = step.div_ceil(2);
        }
        Self { ops, ..self.clone() }
    }
}

/// Mostly both sides know of each other before anything else happens.
fn beginning(from: &mut impl Choices) -> Vec<Op> {
    let both = [Op::Pump { who: 0 }, Op::Pump { who: 1 }];
    if from.one_in(8) { Vec::new() } else { both.into() }
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:?}", self.plan)?;
        for op in &self.ops {
            writeln!(f, "  {op:?}")?;
        }
        Ok(())
    }
}

fn said(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without words".to_owned())
}

/// A seed whose run broke something.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The seed.
    pub seed: u64,
    /// The invariant that broke.
    pub broken: Broken,
    /// The smallest run that breaks it too, and how it does.
    pub smallest: Run,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "SEED={}: {}", self.seed, self.broken)?;
        write!(f, "{}", self.smallest)?;
        if let Err(broken) = self.smallest.try_go() {
            writeln!(f, "which breaks {broken}")?;
        }
        Ok(())
    }
}

/// Runs a seed.
///
/// # Errors
/// [`Failure`], with the smallest run found that fails alike.
pub fn run_seed(seed: u64, operations: usize) -> Result<Totals, Box<Failure>> {
    let run = Run::seeded(seed, operations);
    run.try_go().map_err(|broken| {
        let smallest = run.shrink(&broken);
        Box::new(Failure { seed, broken, smallest })
    })
}
