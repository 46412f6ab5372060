/* CRC-32C (Castagnoli): reflected polynomial 0x82F63B78, start and final inversion, as iSCSI and ext4 use it.
 * The CRC of "123456789" is 0xE3069283. */
#ifndef CNN_CORE_CRC32C_H
#define CNN_CORE_CRC32C_H

#include <stddef.h>
#include <stdint.h>

/* Continues `crc` (0 to start) over more bytes. Uses the CPU's instruction where there is one. */
uint32_t cnn_crc32c(uint32_t crc, const void *data, size_t bytes);

/* The same in plain C, for tests. */
uint32_t cnn_crc32c_portable(uint32_t crc, const void *data, size_t bytes);

#endif
