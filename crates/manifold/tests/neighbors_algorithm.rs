//! Fits and models whose neighbours are found through a graph.

mod common;

use common::swiss_roll;
use lakefold_manifold::{
    ApproximateIndex, Control, ExactIndex, Feature, HnswOptions, Lle, ManifoldError, Metric, Model,
    NeighborMethod, NeighborsAlgorithm, ReserveError, Solver, hits,
};
use ndarray::{Array2, Axis, s};

/// A sheet that is bent in twenty dimensions.
fn sheet(rows: usize) -> Array2<f64> {
    let low = swiss_roll(rows, 7);
    let high = low.dot(&Array2::from_shape_fn((3, 20), |(i, j)| {
        ((i + 1) as f64 * (j + 1) as f64 * 0.3).sin()
    }));
    high.mapv(|v| v + (v * 0.3).sin())
}

fn lle(algorithm: NeighborsAlgorithm) -> Lle {
    Lle::builder(2)
        .n_neighbors(10)
        .solver(Solver::Landmarks)
        .n_landmarks(150)
        .neighbors_algorithm(algorithm)
        .build()
        .unwrap()
}

#[test]
fn names() {
    for name in NeighborsAlgorithm::NAMES {
        assert_eq!(NeighborsAlgorithm::parse(name).unwrap().name(), name);
    }
    let message = NeighborsAlgorithm::parse("ball_tree")
        .unwrap_err()
        .to_string();
    assert_eq!(
        message,
        "neighbors_algorithm must be one of auto, exact, hnsw, got 'ball_tree'"
    );
}

#[test]
fn threads_and_the_order_of_rows_change_no_bit() {
    let features = sheet(1500);
    let fit = |features: &Array2<f64>, threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        pool.install(|| {
            lle(NeighborsAlgorithm::Hnsw)
                .fit(features.view(), &())
                .unwrap()
        })
    };
    let one = fit(&features, 1);
    assert_eq!(one.diagnostics.neighbors, NeighborMethod::Hnsw);
    let recall = one.diagnostics.neighbors_recall.unwrap();
    assert!((0.95..=1.0).contains(&recall), "{recall}");
    assert_eq!(fit(&features, 4).embedding, one.embedding);
    let order: Vec<usize> = (0..1500).map(|i| (i * 7 + 11) % 1500).collect();
    let shuffled = fit(&features.select(Axis(0), &order), 2);
    assert_eq!(shuffled.embedding, one.embedding.select(Axis(0), &order));

    let exact = lle(NeighborsAlgorithm::Exact)
        .fit(features.view(), &())
        .unwrap();
    assert_eq!(exact.diagnostics.neighbors, NeighborMethod::Exact);
    assert_eq!(exact.diagnostics.neighbors_recall, None);
    // So few rows are compared with one another unless a graph is asked for.
    let auto = lle(NeighborsAlgorithm::Auto)
        .fit(features.view(), &())
        .unwrap();
    assert_eq!(auto.embedding, exact.embedding);
}

#[test]
fn landmarks_keep_their_embedding_when_searched_through_a_graph() {
    fn check<T: Feature + std::fmt::Debug>(features: &Array2<T>) {
        let lle = Lle::builder(2)
            .n_neighbors(10)
            .solver(Solver::Exact)
            .build()
            .unwrap();
        let (fit, model) = lle.fit_model(features.view(), &()).unwrap();
        let graph = model.clone().with_search(NeighborMethod::Hnsw, 3);
        assert_eq!(graph.search(), NeighborMethod::Hnsw);
        let placed = graph.transform(features.view(), &()).unwrap();
        assert_eq!(placed, fit.embedding, "rows equal to landmarks");
        assert_eq!(graph.landmarks(), model.landmarks());
        // Of rows between landmarks nearly all have the same neighbours.
        let half = features.ncols() / 2;
        let others = Array2::from_shape_fn((300, features.ncols()), |(i, j)| {
            features[(if j < half { i } else { i + 1 }, j)]
        });
        let exact = model.transform(others.view(), &()).unwrap();
        let placed = graph.transform(others.view(), &()).unwrap();
        let rows = exact.rows().into_iter().zip(placed.rows());
        let same = rows.filter(|(e, p)| e == p).count();
        assert!(same > 250, "{same} of 300");
        let again = graph.with_search(NeighborMethod::Exact, 3);
        assert_eq!(again.transform(others.view(), &()).unwrap(), exact);
    }
    check(&sheet(800));
    check(&sheet(800).mapv(|v| v as f32));
}

#[test]
fn a_model_that_is_cancelled_before_its_graph_is_built_can_be_used_later() {
    struct Stopped;
    impl Control for Stopped {
        fn is_cancelled(&self) -> bool {
            true
        }
    }
    let landmarks = sheet(500);
    let embedding = landmarks.select(Axis(1), &[0, 1]);
    let model = Model::new(landmarks.view(), embedding.clone(), 5, 0.1).unwrap();
    let model = model.with_search(NeighborMethod::Hnsw, 0);
    let stopped = model.transform(landmarks.view(), &Stopped);
    assert_eq!(stopped.unwrap_err(), ManifoldError::Cancelled);
    assert_eq!(model.transform(landmarks.view(), &()).unwrap(), embedding);
}

#[test]
fn no_memory_for_the_search_is_an_error() {
    struct Little;
    impl Control for Little {
        fn reserve(&self, purpose: &str, bytes: usize) -> Result<(), ReserveError> {
            if purpose != "the search for neighbours through a graph" {
                return Ok(());
            }
            Err(ReserveError {
                purpose: purpose.to_owned(),
                requested: bytes,
                reserved: 0,
                limit: Some(0),
            })
        }
    }
    let error = lle(NeighborsAlgorithm::Hnsw).fit(sheet(500).view(), &Little);
    assert!(matches!(error, Err(ManifoldError::Memory(_))));
}

#[test]
fn distances_to_all_rows_are_those_of_the_search() {
    let features = sheet(400);
    for metric in [Metric::L2, Metric::Cosine, Metric::InnerProduct] {
        // Far from what floats hold, too.
        for scale in [1.0, 1e-120, 1e100] {
            let rows = &features * scale;
            let exact = ExactIndex::new(rows.clone(), metric).unwrap();
            let options = HnswOptions::default();
            let graph = ApproximateIndex::new(rows.clone(), metric, &options, 64, &()).unwrap();
            let queries = rows.select(Axis(0), &[3, 77]);
            let all = exact.nearest(queries.view(), 400, &()).unwrap();
            let found = graph.nearest(queries.view(), 20, &()).unwrap();
            for (place, query) in queries.rows().into_iter().enumerate() {
                let distances = exact.all_distances(query).unwrap();
                assert_eq!(graph.all_distances(query).unwrap(), distances);
                for (id, distance) in all.ids.row(place).iter().zip(all.distances.row(place)) {
                    assert_eq!(distances[*id as usize], *distance, "{metric} {scale}");
                }
                let near = hits(&found.distances.row(place).to_vec(), distances, metric);
                assert!(near >= 19, "{metric} {scale}: {near} of 20");
            }
        }
    }
}

/// Of rows that may come twice, by graphs so small that they miss some.
fn hits_are_those_of_all_distances<T: Feature>(rows: Array2<T>, metric: Metric) {
    let options = HnswOptions {
        m: 2,
        ef_construction: 3,
        seed: 1,
    };
    let graph = ApproximateIndex::new(rows.clone(), metric, &options, 1, &()).unwrap();
    let (n, k) = (rows.nrows(), 4);
    let searched: Vec<usize> = (0..n).step_by(31).collect();
    let queries = rows.select(Axis(0), &searched);
    let mut missed = 0;
    // Numbers of queries that are no multiple of those that are compared at a time.
    for count in [0, 1, 4, 7, searched.len()] {
        let queries = queries.slice(s![..count, ..]);
        let found = graph.nearest(queries, k, &()).unwrap().distances;
        let near = found.rows().into_iter().zip(queries.rows());
        let near = near.map(|(found, query)| {
            let all = graph.all_distances(query).unwrap();
            hits(&found.to_vec(), all, metric)
        });
        let near: usize = near.sum();
        assert_eq!(graph.hits(queries, found.view(), &()).unwrap(), near);
        missed += count * k - near;

        let places = &searched[..count];
        let found = graph.nearest_others(0..n, k, &()).unwrap().distances;
        let found = found.select(Axis(0), places);
        let near = found.rows().into_iter().zip(places);
        let near = near.map(|(found, &row)| {
            let mut all = graph.all_distances(rows.row(row)).unwrap();
            all.remove(row);
            hits(&found.to_vec(), all, metric)
        });
        let near: usize = near.sum();
        assert_eq!(graph.other_hits(places, found.view(), &()).unwrap(), near);
        missed += count * k - near;
    }
    assert!(missed > 0, "{metric}: nothing was missed");
    let too_many = Array2::zeros((1, n + 1));
    let one = queries.slice(s![..1, ..]);
    assert_eq!(graph.hits(one, too_many.view(), &()).unwrap(), 0);
    assert!(graph.hits(queries.view(), too_many.view(), &()).is_err());
    assert!(graph.other_hits(&[n], too_many.view(), &()).is_err());
}

#[test]
fn hits_of_many_queries_are_those_of_each() {
    // Every fifth row is the one before it again.
    let rows: Vec<usize> = (0..1500).map(|i| i - usize::from(i % 5 == 4)).collect();
    let rows = sheet(1500).select(Axis(0), &rows);
    for metric in [Metric::L2, Metric::Cosine, Metric::InnerProduct] {
        hits_are_those_of_all_distances(rows.mapv(|v| v as f32), metric);
        for scale in [1.0, 1e-120, 1e100] {
            hits_are_those_of_all_distances(&rows * scale, metric);
        }
    }
}

#[test]
fn bad_arguments_of_an_index() {
    let index = |rows: Array2<f64>, metric, options: HnswOptions| {
        ApproximateIndex::new(rows, metric, &options, 64, &())
            .map(|_| ())
            .unwrap_err()
            .to_string()
    };
    let options = HnswOptions::default();
    let mut rows = sheet(50);
    let m = HnswOptions { m: 257, ..options };
    assert!(index(rows.clone(), Metric::L2, m).contains("m must be from 2 to 256, got 257"));
    rows[(7, 3)] = f64::NAN;
    assert!(index(rows.clone(), Metric::L2, options).contains("row 7 has NaN in dimension 3"));
    rows.row_mut(7).fill(0.0);
    assert!(index(rows.clone(), Metric::Cosine, options).contains("row 7 is all zeros"));
    let made = ApproximateIndex::new(rows, Metric::L2, &options, 64, &()).unwrap();
    let message = made.nearest_others(0..50, 50, &()).unwrap_err().to_string();
    assert!(
        message.contains("more rows than neighbours, found 50 rows"),
        "{message}"
    );
    let message = made.nearest_others(40..51, 5, &()).unwrap_err().to_string();
    assert!(
        message.contains("a range within the index's 50 rows"),
        "{message}"
    );
    let message = made
        .nearest(Array2::zeros((1, 3)).view(), 5, &())
        .unwrap_err()
        .to_string();
    assert!(
        message.contains("of the index's 20 dimensions"),
        "{message}"
    );
}
