package sqldb

import (
	"testing"

	"github.com/dwp/sallyport/exporters"
	"github.com/dwp/sallyport/exporters/exportertest"
)

// pgTorture is a schema of every kind of type and name.
const pgTorture = `
CREATE TYPE mood AS ENUM ('sad', 'it''s ok', 'ha"ppy', 'ta	b');
CREATE DOMAIN positive AS integer CHECK (VALUE > 0);
CREATE DOMAIN label AS text COLLATE "C" NOT NULL DEFAULT 'x';
CREATE TYPE pair AS (a integer, b text);
CREATE TYPE floatrange AS RANGE (SUBTYPE = float8);
CREATE TABLE types (
	id bigint PRIMARY KEY, i2 smallint, i4 integer, i8 bigint, ser serial, n numeric, n2 numeric(38,10), n3 numeric(10,2),
	f4 real, f8 double precision, m money, b boolean, t text, vc varchar(20), c char(5), nm name, ch "char",
	by bytea, d date, tm time, tmp time(2), tz timetz, ts timestamp, ts3 timestamp(3), tsz timestamptz, iv interval,
	bits bit(5), vbits bit varying, u uuid, ip inet, net cidr, mac macaddr, js json, jb jsonb, x xml, pt point, bx box, pth path, cir circle,
	arr integer[], arr2 text[][], arr3 timestamptz[], r int4range, nr numrange, tr tstzrange, mr int4multirange, fr floatrange,
	md mood, mds mood[], dom positive, lab label, pr pair, prs pair[], tsv tsvector, tsq tsquery, o oid, lsn pg_lsn, jp jsonpath,
	gen bigint GENERATED ALWAYS AS (i4::bigint * 2) STORED
);
INSERT INTO types (id, i2, i4, i8, n, n2, n3, f4, f8, m, b, t, vc, c, nm, ch, by, d, tm, tmp, tz, ts, ts3, tsz, iv, bits, vbits, u, ip, net, mac,
	js, jb, x, pt, bx, pth, cir, arr, arr2, arr3, r, nr, tr, mr, fr, md, mds, dom, lab, pr, prs, tsv, tsq, o, lsn, jp) VALUES
(9007199254740993, 32767, 2147483647, 9223372036854775807, 'NaN', 1234567890123456789012345678.0123456789, 1.10, 3.4028235e38, 1.7976931348623157e308, 12.34, true,
	E'tab\t nl\n cr\r bs\\ quote" \b\f\v \x01\x7f é ' || chr(8232) || chr(128512) || ' \. \N', '', 'ab', 'name', 'x', '\x00ff0a5c', 'infinity', '24:00:00', '23:59:59.99', '12:00:00.5+05:30',
	'infinity', '2026-01-01 00:00:00.120', '-infinity', '-1 year 2 mons -3 days 04:05:06.700000', B'10101', B'', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', '::1/64', '10.0.0.0/8', '08:00:2b:01:02:03',
	'{"a" : 1.10, "a": null, "b":"\u0001"}', '{"z": 1e400, "y": "x\ty"}', '<a>&amp;</a>', '(1,-0)', '(1,2),(3,4)', '((1,1),(2,2))', '<(1,2),3>', '[0:1]={1,NULL}', '{{"a","b,\"c"},{"NULL",NULL}}', '{infinity,"0044-03-15 00:00:00+00 BC"}',
	'[1,5)', 'empty', '(,2026-01-01)', '{[1,3),[7,)}', '[1.5,infinity)', 'it''s ok', '{sad,"ha\"ppy","ta	b"}', 1, '', '(1,"x ""y""")', '{"(1,)","(,z)"}', 'a:1 b:2', 'a & b', 4294967295, '16/B374D848', '$."a"[*]'),
(-1, -32768, -2147483648, -9223372036854775808, '-Infinity', -0.0000000001, -0.00, 'NaN', '-Infinity', -1, false, '', 'null', '', '', '', '\x', '4713-01-01 BC', '00:00', NULL, NULL,
	'294276-12-31 23:59:59.999999', '0044-03-15 12:34:56 BC', '4714-11-24 00:00:00+00 BC', '0', B'00000', B'1', NULL, '1.2.3.4', '::/0', NULL,
	'null', 'null', '', '(NaN,Infinity)', NULL, '[(0,0),(1,1)]', NULL, '{}', '{}', '{}', 'empty', NULL, NULL, '{}', 'empty', NULL, NULL, NULL, 'v', '(,)', '{}', '', '', 0, NULL, NULL);
INSERT INTO types (id, f4, f8, lab, n, t) VALUES (1, 1e-45, 5e-324, 'l', '1e-300', NULL), (2, '-0', '-0', 'l', 123456789012345678901234567890.5, 'x'), (3, 1e6, 1e15, 'l', 1.50, 'y'),
	(4, 123456, 123456789012345, 'l', 0, 'z'), (5, 'Infinity', 'NaN', 'l', 'Infinity', 'w');
INSERT INTO types (id, i2, i4, i8, n, n2, n3, f4, f8, m, b, t, vc, c, nm, ch, by, d, tm, tmp, tz, ts, ts3, tsz, iv, bits, vbits, u, ip, net, mac, js, jb, x, pt,
	arr, r, tr, md, mds, dom, lab, pr, tsv, o) VALUES
(-9223372036854775808, -1, -1, -1, 12345678901234567890123456789.0123456789012345678901234567890, -1234567890123456789012345678.0123456789, -99999999.99, -0.1, 0.1, -0.01, false,
	E'tab\t nl\n cr\r bs\\ quote" '' \x01 é ' || chr(128512), ' trail ', 'a', 'n', 'x', '\x00ff', '9999-12-31', '23:59:59.999999', '00:00:00.10', '00:00:00-15:59', '0001-01-01 00:00:00',
	'9999-12-31 23:59:59.999', '1969-12-31 23:59:59.999999+00', '178000000 years', B'11111', B'1', 'ffffffff-ffff-ffff-ffff-ffffffffffff', '255.255.255.255/0', '::/128', 'ff:ff:ff:ff:ff:ff', '[1.10 ]', '[1.10]', 'text', '(0.1,1e300)',
	'{}', '[1,2)', '[2026-01-01,2026-01-02)', 'sad', '{}', 2147483647, ' ', '(1,)', 'a', 1);
CREATE TABLE keyless (a integer, b text);
INSERT INTO keyless VALUES (1, 'x'), (1, 'x'), (NULL, NULL), (NULL, NULL), (NULL, NULL), (2, '');
INSERT INTO keyless SELECT g, repeat('y', 100) FROM generate_series(10, 800) g;
CREATE TABLE plainkeyless AS SELECT g AS a, repeat('y', 500) AS b FROM generate_series(10, 800) g;
CREATE TABLE "we""ird.name ; -- é
x" ("select" integer, "a b" text, "quote""d" text, "new
line" text, "123456789012345678901234567890123456789012345678901234567890123" text, "T" integer, t integer, PRIMARY KEY ("a b", "select"));
INSERT INTO "we""ird.name ; -- é
x" VALUES (1, 'k''1', 'q', 'n', 'l', 1, 2), (2, 'k''1', NULL, NULL, NULL, NULL, NULL), (1, 'a', '', '', '', 0, 0);
CREATE TABLE "Table" (id integer PRIMARY KEY); CREATE TABLE "table" (id integer PRIMARY KEY);
CREATE TABLE nocolumns (); INSERT INTO nocolumns DEFAULT VALUES; INSERT INTO nocolumns DEFAULT VALUES;
CREATE TABLE part (id integer, v text, PRIMARY KEY (id)) PARTITION BY RANGE (id);
CREATE TABLE part_a PARTITION OF part FOR VALUES FROM (0) TO (10); CREATE TABLE part_b PARTITION OF part DEFAULT;
INSERT INTO part SELECT g, 'v' || g FROM generate_series(1, 20) g;
CREATE TABLE parent (id integer PRIMARY KEY, v text); CREATE TABLE child (extra text) INHERITS (parent);
INSERT INTO parent VALUES (1, 'p'); INSERT INTO child VALUES (2, 'c', 'e');
CREATE TABLE refs (id integer GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY, who bigint REFERENCES types ON DELETE CASCADE, up integer REFERENCES refs, u uuid UNIQUE);
INSERT INTO refs (who, up) VALUES (1, NULL), (2, 1), (NULL, 2);
CREATE INDEX refs_who ON refs (who); CREATE INDEX refs_half ON refs (who) WHERE who > 1; CREATE INDEX ON types (lower(t));
CREATE TABLE nums (k numeric, d date, f float8, by bytea, PRIMARY KEY (k, d, f, by));
INSERT INTO nums VALUES ('NaN', 'infinity', 'NaN', '\x00'), (1.10, '2026-01-01', -0.5, '\x'), (1.1000001, '0044-03-15 BC', 'Infinity', '\xff');
CREATE TABLE big AS SELECT g::bigint AS id, g % 7 AS part, repeat('x', 300) AS v FROM generate_series(1, 3000) g;
ALTER TABLE big ADD PRIMARY KEY (part, id);
CREATE VIEW looks AS SELECT id, t FROM types; CREATE MATERIALIZED VIEW kept AS SELECT id FROM types;
CREATE FUNCTION twice(i integer) RETURNS integer LANGUAGE sql AS 'SELECT i * 2';
COMMENT ON TABLE types IS 'it''s all here'; COMMENT ON COLUMN types.id IS 'the "key"';
`

func TestPostgresObeysTheLawOfExporters(t *testing.T) {
	t.Parallel()
	url, _ := pgDatabase(t, pgTorture)
	err := exportertest.CheckExporter(t.Context(), func() (exporters.Exporter, error) {
		return Postgres.Open(t.Context(), exporters.Config{Options: map[string]any{"url": url}})
	}, exportertest.Options{})
	if err != nil {
		t.Error(err)
	}
}
