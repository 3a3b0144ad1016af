# A local repository of a thousand files.
set -eu
export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@b GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@b
export GIT_AUTHOR_DATE='2001-01-01T00:00:00Z' GIT_COMMITTER_DATE='2001-01-01T00:00:00Z'
export GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_SYSTEM=/dev/null GIT_PAGER=cat
git -c init.defaultBranch=main init -q r; cd r
for d in $(seq 1 20); do
  mkdir d$d
  for f in $(seq 1 50); do echo "file $d $f" > d$d/f$f; done
done
git add -A; git status --short | wc -l
git commit -q -m first; git log --format='%H %s'
for i in 1 2 3; do
  echo "change $i" >> d$i/f$i; rm d4/f$i; git mv d5/f$i d5/moved$i
  git add -A; git commit -q -m "change $i"
done
git log --oneline --stat | tail -3
git diff --stat HEAD~3 | tail -1
git checkout -q -b side HEAD~1; echo s > side; git add side; git commit -q -m side
git checkout -q main; git merge -q -m merge side; git log --format=%h | wc -l
git fsck --full 2>/dev/null; git gc -q; git count-objects -v | grep -E '^(count|in-pack|packs)'
cd ..; git clone -q r c; cd c; git log -1 --format=%H; git ls-files | wc -l; git ls-files -s | sha256sum
git grep -c 'file 7 ' | wc -l; git blame -s d1/f1 | cut -c1-8
git stash list | wc -l; echo dirty >> d1/f1; git stash -q; git status --short | wc -l; git stash pop -q; git status --short
git archive HEAD | tar tf - | wc -l
cd ..; rm -rf r c
