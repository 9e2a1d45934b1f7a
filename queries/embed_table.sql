-- Embed a table: one row in, one row out, the other columns untouched.
--
-- lle_embed(features, n_components) takes any list of numbers and fits all rows at once. The embedding is a list too:
-- embedding[1] is the coordinate that changes most slowly along the data.
SELECT
    id,
    label,
    lle_embed(pixels, 2, 15) OVER () AS embedding
FROM 'sample_data/digits.parquet'
ORDER BY id
LIMIT 10;
