# Files and their attributes through the ordinary tools.
set -u
dd if=/dev/zero of=z bs=64k count=20 status=none; stat -c '%s %a %h %F' z
dd if=z of=s bs=1M seek=10 conv=notrunc status=none; stat -c '%s' s; du -k s | cut -f1 | awk '{print ($1 < 2500)}'
cp z c; cp -a z a; cmp z c && echo same
ln z hard; ln -s z soft; stat -c '%h' z; readlink soft; readlink -f soft | sed 's|.*/||'
touch -d '2001-02-03 04:05:06 UTC' t; stat -c '%Y' t; date -u -r t +%F
chmod u=rwx,g=rx,o= t; stat -c %A t; chmod 4711 t; stat -c %a t
mkdir -p d/e/f; rmdir d/e/f; mv d g; find g | sort
install -m 600 z i; stat -c %a i
truncate -s 100 i; stat -c %s i; split -b 300k z part.; ls part.* | wc -l; cat part.* | cmp - z && echo joined
ls -A | sort | tr '\n' ' '; echo
mktemp -d ./tmp.XXXX | wc -c
echo one > o; tee o2 < o > /dev/null; cat o o2 | wc -l
head -c 100000 /dev/urandom | wc -c; head -c 10 /dev/zero | od -c | head -1
echo hello > /dev/null; cat /dev/null | wc -c
echo full > /dev/full 2>/dev/null; echo "full $?"
rm -rf g part.* tmp.*; rm z soft; cat hard | wc -c; test -e soft; echo $?
id -u > /dev/null && whoami > /dev/null; echo $?
seq 5 | tac | paste -sd,; seq 3 | shuf --random-source=/dev/zero | wc -l
expr 6 \* 7; factor 1234567; basename /a/b.c .c; date -u -d @86400 +%FT%T
env -i A=1 env; nice -n 5 nice; nohup true 2>/dev/null; echo $?
mkfifo p; timeout 1 cat p; echo "fifo $?"
stat -f -c '%T' /proc; sync; echo synced
