# A generated C project of 25 files, built with make and gcc.
set -eu
mkdir -p src; cd src
{
  echo 'CFLAGS = -O1 -Wall -Werror'
  echo 'OBJS ='; for i in $(seq 1 24); do echo "OBJS += mod$i.o"; done
  printf 'prog: main.o $(OBJS)\n\t$(CC) -o $@ main.o $(OBJS) -lm\n'
  printf '%%.o: %%.c all.h\n\t$(CC) $(CFLAGS) -c -o $@ $<\n'
  printf 'clean:\n\trm -f *.o prog\n'
} > Makefile
echo '#include <stdio.h>' > all.h
echo '#include <math.h>' >> all.h
for i in $(seq 1 24); do
  echo "double mod$i(double x);" >> all.h
  cat > mod$i.c <<C
#include "all.h"
static int table[64];
double mod$i(double x) {
  for (int k = 0; k < 64; k++) table[k] = (k * $i) % 17;
  double s = 0;
  for (int k = 0; k < 64; k++) s += table[k] * sin(x + k);
  return s;
}
C
done
{
  echo '#include "all.h"'; echo 'int main(void) { double s = 0;'
  for i in $(seq 1 24); do echo "  s += mod$i($i);"; done
  echo '  printf("%.6f\n", s); return 0; }'
} > main.c
make -s -j2 prog && ./prog
make -q prog && echo 'up to date'
touch mod3.c; make prog | grep -c mod3.c
make -s clean; ls *.o 2>/dev/null | wc -l
make -j4 prog | wc -l; ./prog
echo 'int main(void) { return *(volatile int *)16; }' > crash.c
gcc -o crash crash.c; set +e; ./crash 2>/dev/null; echo "crash $?"
echo 'syntax error' > bad.c; gcc -c bad.c 2>/dev/null; echo "gcc $?"
gcc -static -o st main.c mod*.c -lm 2>/dev/null && ./st || echo 'no static libc'
cd ..; rm -rf src
