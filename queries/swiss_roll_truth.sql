-- Compare with the truth: the swiss roll's own coordinates are in the file.
--
-- t runs along the roll, height across it. Unrolled, one coordinate should follow each. LLE fixes neither sign nor scale,
-- so the absolute rank correlation tells: 1 is perfect order.
WITH embedded AS (
    SELECT
        t,
        height,
        lle_embed(position, 2) OVER () AS embedding
    FROM 'sample_data/swiss_roll.parquet'
),
ranked AS (
    SELECT
        rank() OVER (ORDER BY t) AS t,
        rank() OVER (ORDER BY height) AS height,
        rank() OVER (ORDER BY embedding[1]) AS first,
        rank() OVER (ORDER BY embedding[2]) AS second
    FROM embedded
)
SELECT
    round(abs(corr(first, t)), 3) AS first_with_t,
    round(abs(corr(first, height)), 3) AS first_with_height,
    round(abs(corr(second, t)), 3) AS second_with_t,
    round(abs(corr(second, height)), 3) AS second_with_height
FROM ranked;
