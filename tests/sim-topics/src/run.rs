//! Runs: a plan and a list of operations, from a seed; and the smallest list that still fails.

use std::{
    any::Any,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    rc::Rc,
};

use rsock_sim::Rng;

use crate::{
    broken::{Broken, Invariant},
    plan::Plan,
    trace,
    world::World,
};

pub use crate::totals::Totals;

/// Operations of a seed's run, beside those in the middle of others.
pub const OPERATIONS: usize = 400;

/// A world and what happens in it.
#[derive(Clone, Debug)]
pub struct Run {
    seed: u64,
    plan: Plan,
    /// Each operation draws what it does from its own seed.
    operations: Vec<u64>,
}

impl Run {
    /// The run of a seed, with so many operations.
    pub fn seeded(seed: u64, operations: usize) -> Self {
        let mut rng = Rng::new(seed);
        let plan = Plan::arbitrary(&mut rng);
        let operations = (0..operations).map(|_| rng.number()).collect();
        Self { seed, plan, operations }
    }

    /// Operations that are left.
    pub fn len(&self) -> usize {
        self.operations.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.operations.is_empty()
    }

    fn go(&self) -> Totals {
        let world = World::new(self.plan.clone(), Rng::new(self.seed));
        if self.plan.connections > 64 {
            // A crowd in one room, so that its pump has more than one handful.
            let connections = world.connections.borrow().clone();
            for connection in &connections {
                world.subscribe_on(connection, 0);
            }
            // So that those with credit wait.
            connections.iter().for_each(|connection| world.drive(connection, 2));
        }
        for seed in &self.operations {
            world.draw_from(Rng::new(*seed));
            world.act();
        }
        world.draw_from(Rng::new(self.seed));
        world.settle();
        debug_assert_eq!(Rc::strong_count(&world), 1);
        world.totals.get()
    }

    /// Runs it; a panic is a broken invariant too.
    ///
    /// # Errors
    /// [`Broken`] says what did not hold.
    pub fn try_go(&self) -> Result<Totals, Broken> {
        catch_unwind(AssertUnwindSafe(|| self.go())).map_err(|panic| broken(&*panic))
    }

    /// The smallest list of operations found that breaks the same invariant.
    #[must_use]
    pub fn shrink(&self, broken: &Broken) -> Self {
        let mut run = self.clone();
        let mut step = run.len().div_ceil(2).max(1);
        loop {
            let (mut at, before) = (0, run.len());
            while at < run.len() {
                let mut fewer = run.clone();
                fewer.operations.drain(at..run.len().min(at + step));
                if fewer.try_go().is_err_and(|other| other.invariant == broken.invariant) {
                    run = fewer;
                } else {
                    at += step;
                }
            }
            if step == 1 && run.len() == before {
                return run;
            }
            step = step.div_ceil(2);
        }
    }
}

fn broken(panic: &(dyn Any + Send)) -> Broken {
    if let Some(broken) = panic.downcast_ref::<Broken>() {
        return broken.clone();
    }
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    let detail = text.unwrap_or_else(|| "a panic without words".to_owned());
    Broken { invariant: Invariant::Panic, detail }
}

/// A seed whose run broke something.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The seed.
    pub seed: u64,
    /// The invariant that broke.
    pub broken: Broken,
    /// The smallest run that breaks it too.
    pub smallest: Run,
    /// How that one breaks it.
    pub smallest_broken: Broken,
    /// Its story.
    pub trace: Vec<String>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "SEED={}: {}", self.seed, self.broken)?;
        writeln!(f, "{:?}", self.smallest.plan)?;
        for line in &self.trace {
            writeln!(f, "  {line}")?;
        }
        writeln!(f, "which breaks {}", self.smallest_broken)
    }
}

/// Runs a seed, twice: a world is a function of its seed.
///
/// # Errors
/// [`Failure`], with the smallest run found that fails alike.
pub fn run_seed(seed: u64, operations: usize) -> Result<Totals, Box<Failure>> {
    let run = Run::seeded(seed, operations);
    let again = |totals: Totals| match run.try_go() {
        Ok(other) if other == totals => Ok(totals),
        Ok(_) => {
            let detail = "another run of the same seed is another".to_owned();
            Err(Broken { invariant: Invariant::Panic, detail })
        }
        Err(broken) => Err(broken),
    };
    run.try_go().and_then(again).map_err(|broken| {
        let smallest = run.shrink(&broken);
        let (again, trace) = trace::traced(|| smallest.try_go());
        let smallest_broken = again.err().unwrap_or_else(|| broken.clone());
        Box::new(Failure { seed, broken, smallest, smallest_broken, trace })
    })
}
