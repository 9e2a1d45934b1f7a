-- Features from scalar columns: make_array turns them into the list that lle_embed takes.
--
-- Distances decide who is a neighbour, so columns of different units need a common scale: here, distances from the mean
-- in standard deviations.
WITH scaled AS (
    SELECT
        id,
        t,
        (position[1] - avg(position[1]) OVER ()) / stddev(position[1]) OVER () AS x,
        (position[2] - avg(position[2]) OVER ()) / stddev(position[2]) OVER () AS y,
        (position[3] - avg(position[3]) OVER ()) / stddev(position[3]) OVER () AS z
    FROM 'sample_data/swiss_roll.parquet'
)
SELECT
    id,
    round(t, 3) AS t,
    lle_embed(make_array(x, y, z), n_components => 2, n_neighbors => 15) OVER () AS embedding
FROM scaled
ORDER BY id
LIMIT 10;
