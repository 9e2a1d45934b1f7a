use super::hnsw_rs::build;
use super::*;
use crate::curved_features;
use lakefold_manifold::Metric;

const OPTIONS: EngineOptions = EngineOptions {
    m: 12,
    ef_construction: 60,
    seed: 0,
};

fn variants() -> Vec<HnswRsOptions> {
    let default = HnswRsOptions::default();
    let own = HnswRsOptions {
        distance: DistanceOf::Own,
        ..default
    };
    vec![
        default,
        own,
        HnswRsOptions {
            level_scale: 0.5,
            keep_pruned: true,
            ..own
        },
        HnswRsOptions {
            extend_candidates: true,
            one_by_one: true,
            ..own
        },
    ]
}

/// 37 dimensions: two sets of sixteen lanes and some over.
#[test]
fn engines_find_the_same_rows() {
    let (rows, queries) = (curved_features(2000, 37, 1), curved_features(50, 37, 2));
    let exact = |query: usize| {
        let mut nearest: Vec<(f32, i64)> = (0..rows.nrows())
            .map(|row| {
                let difference = &rows.row(row) - &queries.row(query);
                (difference.dot(&difference), row as i64)
            })
            .collect();
        nearest.sort_by(|a, b| a.0.total_cmp(&b.0));
        nearest
    };
    let mut engines: Vec<Box<dyn Engine>> = vec![Box::new(
        Lakefold::build(rows.view(), Metric::L2, &OPTIONS).unwrap(),
    )];
    for own in variants() {
        engines.push(build(rows.view(), &OPTIONS, &own).unwrap());
    }
    for engine in engines {
        let found = engine.search(queries.view(), 5, 100).unwrap();
        let mut right = 0;
        for (query, ids) in found.rows().into_iter().enumerate() {
            let nearest = exact(query);
            let near = |id: &&i64| nearest[..5].iter().any(|(_, row)| row == *id);
            right += ids.iter().filter(near).count();
        }
        assert!(right >= 240, "{}: {right} of 250", engine.account());
        assert!(engine.unreachable() < 20, "{}", engine.account());
    }
}

#[test]
fn hnsw_rs_is_not_asked_what_it_would_die_of() {
    let rows = curved_features(100, 5, 1);
    let message = |rows: &Array2<f32>, m, own: &HnswRsOptions| {
        let options = EngineOptions {
            m,
            ef_construction: 300,
            seed: 0,
        };
        build(rows.view(), &options, own)
            .map(|_| ())
            .unwrap_err()
            .to_string()
    };
    let own = HnswRsOptions::default();
    for m in [0, 1, 256, 257] {
        assert!(message(&rows, m, &own).contains("m must be from 2 to 255"));
    }
    let scaled = HnswRsOptions {
        level_scale: f64::NAN,
        ..own
    };
    assert!(message(&rows, 9, &scaled).contains("level_scale must be"));
    let mut broken = rows.clone();
    broken[(3, 2)] = f32::NAN;
    assert!(message(&broken, 9, &own).contains("row 3, dimension 2 is NaN"));
    assert!(message(&Array2::zeros((0, 5)), 9, &own).contains("no rows"));
    assert!(message(&Array2::zeros((5, 0)), 9, &own).contains("no rows"));
    let index = build(rows.view(), &OPTIONS, &own).unwrap();
    assert!(index.search(broken.view(), 3, 9).is_err());
    assert!(index.search(Array2::zeros((1, 4)).view(), 3, 9).is_err());
    assert!(index.search(rows.view(), 0, 9).is_err());
    assert!(index.search(rows.view(), 101, 200).is_err());
}
