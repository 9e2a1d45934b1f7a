-- Write an embedding to Parquet in chunks: files of about 1,000 rows in a directory, vectors still vectors.
--
-- COPY adds to a directory that has files already, so remove out/chunks/ before running this again.
SET datafusion.execution.minimum_parallel_output_files = 1;
SET datafusion.execution.soft_max_rows_per_output_file = 1000;

COPY (
    SELECT
        package,
        section,
        lle_embed(embedding, 2) OVER () AS embedding
    FROM 'sample_data/debian_packages.parquet'
) TO 'out/chunks/' STORED AS PARQUET OPTIONS ('format.compression' 'zstd(3)');

-- The directory reads back as one table.
SELECT
    count(*) AS rows,
    count(embedding) AS embedded,
    arrow_typeof(first_value(embedding)) AS type
FROM 'out/chunks/';
