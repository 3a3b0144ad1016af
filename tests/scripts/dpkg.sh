# Package tools that only read.
dpkg -l bash | tail -1 | tr -s ' ' | cut -d' ' -f1-3; dpkg -S /bin/bash | head -1
dpkg-query -W -f '${Package} ${Version}\n' | sort | sha256sum
dpkg -L coreutils | sort | sha256sum; dpkg --print-architecture
apt list --installed 2> /dev/null | sort | sha256sum
apt-cache show bash 2> /dev/null | head -1
