# SQLite with its journal modes, locks and a large transaction.
for mode in delete wal truncate memory; do
  rm -f t.db*
  sqlite3 t.db <<S
pragma journal_mode=$mode;
create table t (a integer primary key, b text, c real);
begin;
with recursive n(i) as (select 1 union all select i + 1 from n where i < 20000)
insert into t select i, printf('row %d', i * 7919 % 1009), i / 3.0 from n;
commit;
create index ix on t (b);
select count(*), count(distinct b), round(sum(c), 3) from t;
delete from t where a % 7 = 0;
update t set b = b || '!' where a % 11 = 0;
select count(*), sum(length(b)) from t;
vacuum;
pragma integrity_check;
S
  (for i in 1 2 3 4; do sqlite3 -cmd '.timeout 20000' t.db "insert into t (b) values ('p$i');" & done; wait)
  sqlite3 t.db "select count(*) from t where b like 'p%';"
done
rm -f t.db*; ls
