# A static binary with everything in it.
b() { busybox "$@"; }
b echo hello | b tr a-z A-Z; b seq 3 | b awk '{s+=$1} END {print s}'
b sh -c 'i=0; while [ $i -lt 50 ]; do i=$((i+1)); busybox true; done; echo $i'
b dd if=/dev/zero bs=1k count=100 2>/dev/null | b sha256sum
b mkdir -p bb/x; b touch bb/x/y; b find bb | b sort; b tar cf bb.tar bb; b tar tf bb.tar; b rm -r bb bb.tar
b sh -c 'trap "echo t" TERM; kill -TERM $$; echo after'; b expr 3 + 4; b sleep 0.1; b uname -s
b sh -c 'echo a | cat | cat | cat'; b printf '%s\n' x y | b xargs -n1 busybox echo arg; b ps > /dev/null; echo $?
b vi --help > /dev/null 2>&1; b stat -c %a / > /dev/null; echo $?
