# Runs in the guest, by nvme.sh: the contract of block devices on SPDK's NVMe bdevs, two namespaces of one controller.
#   FIRST: see nvme.sh
. lablib.sh
# The pages of SPDK's memory in the test, and some.
"$SHARE/setup.sh" hugepages 320 || die "no hugepages"
"$SHARE/setup.sh" bind "$FIRST" || die "bind $FIRST"
contract() { OPENSSL_CONF=/dev/null LD_LIBRARY_PATH=$SHARE/spdk LUNETTE_SPDK_NVME=$FIRST "$SHARE/spdk/contract" a_real_controller_passes_the_contract --nocapture; }
try "the contract of SPDK's NVMe bdevs" 0 'test result: ok. 1 passed' -- contract
! grep -q 'not run' <<<"$said" && ok "it was run" || bad "it was not run"
echo "$said" >/out/contract.log
finish
