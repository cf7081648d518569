//! Strengths by the closed form, whatever happens between two touches.

use proptest::prelude::*;

use super::*;

/// What may happen to a sigil.
#[derive(Debug, Clone, Copy)]
enum Step {
    Pass(i64),
    Sweep,
    Recall,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// However often strengths are written down meanwhile, they are what the formula says since the last touch.
    #[test]
    fn strength_follows_its_formula(
        half_life_ms in 1_u64..100_000_000,
        steps in prop::collection::vec(
            prop_oneof![
                4 => (0..2_000_000_000_i64).prop_map(Step::Pass),
                4 => Just(Step::Sweep),
                1 => Just(Step::Recall),
            ],
            1..40,
        ),
    ) {
        let scene = Scene::new(4);
        let half_life = Duration::from_millis(half_life_ms);
        let options = scene.options().half_life(half_life).threshold(0.0);
        let memory = SigilIdentity::open(&scene.runtime, options).unwrap();
        let id = memory.encode_sigil_memory("1").unwrap().id;
        let mut since = 0;
        for step in steps {
            match step {
                Step::Pass(micros) => {
                    scene.pass(micros);
                    since += micros;
                }
                Step::Sweep => prop_assert_eq!(memory.process_memory_decay().unwrap().swept, 0),
                Step::Recall => {
                    memory.recall(id).unwrap();
                    since = 0;
                }
            }
            let want = 0.5_f64.powf(since as f64 / 1e6 / half_life.as_secs_f64());
            let found = memory.get(id).unwrap().strength;
            prop_assert!((found - want).abs() <= want * 1e-9 + 1e-300, "{found} for {want}");
        }
    }

    #[test]
    fn decay_is_a_half_each_half_life(strength in 0.0..1.0_f64, half_life in 1e-3..1e9_f64, n in 0..40) {
        let left = decayed(strength, half_life * f64::from(n), half_life);
        prop_assert!((left - strength * 0.5_f64.powi(n)).abs() < 1e-15 * strength.max(1e-300) + 1e-18);
        prop_assert_eq!(decayed(strength, -half_life, half_life), strength);
    }
}
