# Small programs that people have.
set -u
echo '{"a": [1, 2, {"b": null}]}' | jq -c '.a | map(type)'; jq -n '[range(1000)] | add'
echo 'scale=20; 4*a(1); 2^200' | bc -l
printf '#!/bin/sh\n' > s; file s /dev/null | sed 's/  */ /g'
script -qec 'tty | cut -c1-9; stty size | wc -w; exit 3' /dev/null < /dev/null | tr -d '\r'; echo "script ${PIPESTATUS[0]}"
flock lock sh -c 'flock -n lock true; echo "locked $?"'
timeout -s INT 0.2 sleep 5; echo "timeout $?"
getconf PAGESIZE; getconf CLK_TCK; locale -a | grep -c '^C$'
setsid -w sh -c 'exit 4'; echo "setsid $?"
nice -n 3 sh -c 'nice'; ionice -c 3 true 2> /dev/null; taskset -c 0 nproc; chrt -o 0 true; echo "chrt $?"
prlimit --nofile=64 sh -c 'ulimit -n'; mountpoint -q /proc; echo "mountpoint $?"
hexdump -C s | head -1; cmp s s && strings -n 3 s; rev <<< abc; column -t <<< 'a b'; cal 1 2000 2> /dev/null | head -1
getent passwd root | cut -d: -f1-4; id -un 0; logger -s x 2> /dev/null < /dev/null; echo "logger done"
dd if=/dev/urandom bs=4k count=16 2> /dev/null | base64 | wc -l; xxd -p <<< hi 2> /dev/null | head -c 4; echo
find /usr/share -maxdepth 1 -type d | sort | sha256sum; ls -lR /etc/alternatives 2> /dev/null | tail -n +2 | sha256sum
