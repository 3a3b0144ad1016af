# Keys, signatures, certificates: random numbers, big numbers, temporary files.
set -u
openssl genrsa -out k.pem 2048 2> /dev/null; openssl rsa -in k.pem -check -noout 2> /dev/null
openssl req -x509 -key k.pem -subj /CN=lodger -days 2 -out c.pem 2> /dev/null
openssl x509 -in c.pem -noout -subject; openssl verify -CAfile c.pem c.pem
head -c 100000 /dev/zero > data
openssl dgst -sha256 -sign k.pem -out sig data; openssl x509 -in c.pem -noout -pubkey > pub
openssl dgst -sha256 -verify pub -signature sig data
openssl enc -aes-256-cbc -pbkdf2 -pass pass:x -in data -out enc; openssl enc -d -aes-256-cbc -pbkdf2 -pass pass:x -in enc | cmp - data && echo decrypted
openssl rand -hex 16 | wc -c
ssh-keygen -q -t ed25519 -N '' -f id -C c; stat -c %a id; ssh-keygen -y -f id | cut -d' ' -f1; cut -d' ' -f3 id.pub
echo text > m; ssh-keygen -q -Y sign -n file -f id m 2> /dev/null; echo "c $(cat id.pub)" > allowed
ssh-keygen -q -Y verify -f allowed -I c -n file -s m.sig < m; echo "verified $?"
