-- Two ways to write a digit as a mean of its twelve nearest: attention weighs by nearness and is never negative, the
-- barycentre weights of Locally Linear Embedding reconstruct it as well as any weights can, and may be. One row a
-- digit: both lists of weights, and how far either mean stays from it.
WITH digits AS (SELECT id, pixels FROM 'sample_data/digits.parquet'),
neighborhoods AS (
    SELECT
        pairs.id,
        first_value(own.pixels) AS query,
        array_agg(other.pixels ORDER BY pairs.rank) AS keys,
        attention(own.pixels, other.pixels, other.pixels, 0.005, 'l2') AS mean
    FROM knn((SELECT * FROM 'sample_data/digits.parquet'), id, pixels, k => 12) AS pairs
    JOIN digits AS own ON own.id = pairs.id
    JOIN digits AS other ON other.id = pairs.neighbor_id
    WHERE pairs.id < 10
    GROUP BY pairs.id
),
errors AS (
    SELECT id AS digit, lle_reconstruction_error(pixels, 12) OVER () AS error FROM digits
)
SELECT
    id,
    attention_weights(query, keys, 0.005, 'l2') AS attention,
    barycenter_weights(query, keys) AS barycenter,
    array_distance(query, mean) AS attention_misses_by,
    error AS barycenter_misses_by
FROM neighborhoods
JOIN errors ON digit = id
ORDER BY id;
