//! The checks bite: engines with a fault are found out, each by what it breaks.

use rsock_sim::{OPERATIONS, Run, Tamper};

/// Worlds in which a fault has to show somewhere.
const WORLDS: u64 = 200;

#[test]
fn every_fault_is_found_and_called_by_its_name() {
    for (tamper, expected) in Tamper::ALL {
        let mut found = 0;
        for seed in 0..WORLDS {
            let mut run = Run::seeded(seed, OPERATIONS);
            if run.plan.hostile {
                continue;
            }
            run.tamper = Some(*tamper);
            if let Err(broken) = run.try_go() {
                assert!(expected.contains(&broken.invariant), "{tamper:?}, seed {seed}: {broken}");
                found += u64::from(broken.invariant == expected[0]);
            }
        }
        println!("{tamper:?}: {found}");
        assert!(found >= 5, "{tamper:?} was found in {found} of {WORLDS} worlds");
    }
}

#[test]
fn what_breaks_is_shrunk_to_a_few_operations() {
    let broken = (0..WORLDS).find_map(|seed| {
        let mut run = Run::seeded(seed, OPERATIONS);
        run.tamper = Some(Tamper::PeersId);
        let broken = run.try_go().err()?;
        Some((run, broken))
    });
    let (run, broken) = broken.expect("some world has a request");
    let smallest = run.shrink(&broken);
    assert!(smallest.ops.len() <= 4, "{:?}", smallest.ops);
    let again = smallest.try_go().expect_err("it still breaks");
    assert_eq!(again.invariant, broken.invariant);
}
