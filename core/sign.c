/* Signatures of .cnn files, by libsodium. See core/sign.h. */
#include "core/sign.h"

#include "core/error.h"
#include "core/file.h"
#include "core/input_file.h"
#include "core/memory.h"
#include "core/save.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SIGNATURE_MAGIC \
    "\x8F"              \
    "CNNSIG1"

enum { MAGIC_BYTES = 8, ED25519_BYTES = 64 };

bool cnn_signature_here(const uint8_t *data, size_t size)
{
    return size > CNN_SIGNATURE_BYTES && memcmp(data + size - MAGIC_BYTES, SIGNATURE_MAGIC, MAGIC_BYTES) == 0;
}

#ifdef CNN_SODIUM

#include <sodium.h>

_Static_assert(crypto_sign_BYTES == ED25519_BYTES && crypto_sign_PUBLICKEYBYTES == CNN_KEY_BYTES &&
                   crypto_sign_SEEDBYTES == CNN_KEY_BYTES &&
                   CNN_KEY_BYTES + ED25519_BYTES + MAGIC_BYTES == CNN_SIGNATURE_BYTES,
               "Ed25519");

#define PUBLIC_WORD "cnnkit-ed25519-public "
#define SECRET_WORD "cnnkit-ed25519-secret "

enum { KEY_FILE_BYTES = 22 + 2 * CNN_KEY_BYTES + 1 }; /* a word, hexadecimal digits, a newline */

static cnn_status begin(void)
{
    if (sodium_init() < 0)
        return cnn_error(CNN_ERR_UNSUPPORTED,
                         "libsodium cannot be used on this system, so nothing is signed or checked");
    return CNN_OK;
}

/* ---- Keys ---- */

static cnn_status read_key(const char *path, const char *word, const char *what, uint8_t key[CNN_KEY_BYTES])
{
    cnn_status status = CNN_OK;
    cnn_input_file file = {0};
    const size_t start = strlen(word), digits = start + 2 * CNN_KEY_BYTES;
    size_t made = 0;
    CNN_TRY(begin());
    CNN_TRY(cnn_input_open(&file, path, what, 4096));
    const bool whole = file.size == digits || (file.size == digits + 1 && file.data[digits] == '\n');
    if (!whole || memcmp(file.data, word, start) != 0 ||
        sodium_hex2bin(key, CNN_KEY_BYTES, (const char *)file.data + start, digits - start, NULL, &made, NULL) != 0 ||
        made != CNN_KEY_BYTES)
        CNN_FAIL(CNN_ERR_FORMAT, "%s: is not %s; 'cnn-opt --keygen NAME' makes both keys", path, what);
out:
    cnn_input_close(&file);
    return status;
}

cnn_status cnn_public_key_read(const char *path, cnn_public_key *key)
{
    key->path = path;
    return read_key(path, PUBLIC_WORD, "a public key (NAME.pub)", key->bytes);
}

static cnn_status read_secret(const char *path, uint8_t seed[CNN_KEY_BYTES])
{
    return read_key(path, SECRET_WORD, "a secret key (NAME.key)", seed);
}

cnn_status cnn_secret_key_check(const char *path)
{
    uint8_t seed[CNN_KEY_BYTES];
    const cnn_status status = read_secret(path, seed);
    sodium_memzero(seed, sizeof seed);
    return status;
}

static bool write_all(int fd, const char *text, size_t bytes)
{
    while (bytes > 0) {
        const ssize_t count = write(fd, text, bytes);
        if (count < 0 && errno != EINTR)
            return false;
        text += count > 0 ? count : 0;
        bytes -= count > 0 ? (size_t)count : 0;
    }
    return fsync(fd) == 0;
}

/* A file that is new and whole, or not there. */
static cnn_status write_key(const char *path, const char *word, const uint8_t key[CNN_KEY_BYTES], unsigned mode)
{
    char line[KEY_FILE_BYTES + 1], digits[2 * CNN_KEY_BYTES + 1];
    const int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, (mode_t)mode);
    if (fd < 0)
        return errno == EEXIST
                   ? cnn_error(CNN_ERR_IO, "%s: exists already, and keys are not overwritten; take another name", path)
                   : cnn_error(CNN_ERR_IO, "%s: cannot be made: %s", path, strerror(errno));
    sodium_bin2hex(digits, sizeof digits, key, CNN_KEY_BYTES);
    snprintf(line, sizeof line, "%s%s\n", word, digits);
    bool written = write_all(fd, line, strlen(line));
    int error = errno;
    sodium_memzero(line, sizeof line);
    sodium_memzero(digits, sizeof digits);
    if (close(fd) != 0 && written) {
        written = false;
        error = errno;
    }
    if (written)
        return CNN_OK;
    unlink(path);
    return cnn_error(CNN_ERR_IO, "%s: cannot be written: %s", path, strerror(error));
}

cnn_status cnn_key_create(const char *name)
{
    cnn_status status = CNN_OK;
    uint8_t seed[CNN_KEY_BYTES], public[CNN_KEY_BYTES], secret[crypto_sign_SECRETKEYBYTES];
    char *key_path = NULL, *public_path = NULL;
    CNN_TRY(begin());
    key_path = cnn_format("%s.key", name);
    public_path = cnn_format("%s.pub", name);
    if (!key_path || !public_path)
        CNN_TRY(CNN_ERR_MEMORY);
    randombytes_buf(seed, sizeof seed);
    crypto_sign_seed_keypair(public, secret, seed);
    CNN_TRY(write_key(key_path, SECRET_WORD, seed, 0600));
    status = write_key(public_path, PUBLIC_WORD, public, 0644);
    if (status != CNN_OK)
        unlink(key_path);
out:
    sodium_memzero(seed, sizeof seed);
    sodium_memzero(secret, sizeof secret);
    free(key_path);
    free(public_path);
    return status;
}

/* ---- Files ---- */

/* The file in memory of our own. */
static cnn_status open_own(cnn_input_file *file, const char *path)
{
    const cnn_status status = cnn_input_open(file, path, "a model that cnn-train or cnn-opt wrote", CNN_FILE_MAX_BYTES);
    return status == CNN_OK ? cnn_input_own(file) : status;
}

static cnn_status save_signed(const cnn_input_file *file, size_t size, const uint8_t end[CNN_SIGNATURE_BYTES],
                              const char *output)
{
    cnn_save save = {0};
    cnn_status status = CNN_OK;
    CNN_TRY(cnn_save_begin(&save, output));
    CNN_TRY(cnn_save_write(&save, file->data, size));
    CNN_TRY(cnn_save_write(&save, end, CNN_SIGNATURE_BYTES));
    CNN_TRY(cnn_save_commit(&save));
out:
    cnn_save_abort(&save);
    return status;
}

cnn_status cnn_model_sign(const char *path, const char *secret_key_path, const char *output, size_t *bytes)
{
    cnn_status status = CNN_OK;
    cnn_input_file file = {0};
    cnn_model *model = NULL;
    uint8_t seed[CNN_KEY_BYTES], secret[crypto_sign_SECRETKEYBYTES], end[CNN_SIGNATURE_BYTES];
    CNN_TRY(read_secret(secret_key_path, seed));
    CNN_TRY(open_own(&file, path));
    CNN_TRY(cnn_file_decode(file.data, file.size, path, &model)); /* nobody is to sign what is no model */
    const size_t size = file.size - (cnn_signature_here(file.data, file.size) ? CNN_SIGNATURE_BYTES : 0);
    crypto_sign_seed_keypair(end, secret, seed);
    crypto_sign_detached(end + CNN_KEY_BYTES, NULL, file.data, size, secret);
    memcpy(end + CNN_KEY_BYTES + ED25519_BYTES, SIGNATURE_MAGIC, MAGIC_BYTES);
    CNN_TRY(save_signed(&file, size, end, output));
    if (bytes)
        *bytes = size + CNN_SIGNATURE_BYTES;
out:
    sodium_memzero(seed, sizeof seed);
    sodium_memzero(secret, sizeof secret);
    cnn_model_free(model);
    cnn_input_close(&file);
    return status;
}

cnn_status cnn_signature_check(const uint8_t *data, size_t size, const char *path, const cnn_public_key *key)
{
    if (!cnn_signature_here(data, size))
        return cnn_error(CNN_ERR_FORMAT, "%s: is refused: it is not signed, and a signature by the key %s is asked for",
                         path, key->path);
    const uint8_t *end = data + size - CNN_SIGNATURE_BYTES;
    if (memcmp(end, key->bytes, CNN_KEY_BYTES) != 0)
        return cnn_error(CNN_ERR_FORMAT, "%s: is refused: it is signed by another key than %s", path, key->path);
    if (crypto_sign_verify_detached(end + CNN_KEY_BYTES, data, size - CNN_SIGNATURE_BYTES, key->bytes) != 0)
        return cnn_error(CNN_ERR_FORMAT, "%s: is refused: it was changed after it was signed, or %s never signed it",
                         path, key->path);
    return CNN_OK;
}

cnn_status cnn_model_load_signed_by(const char *path, const cnn_public_key *key, cnn_model **model)
{
    cnn_status status = CNN_OK;
    cnn_input_file file = {0};
    CNN_TRY(open_own(&file, path));
    CNN_TRY(cnn_signature_check(file.data, file.size, path, key));
    CNN_TRY(cnn_file_decode(file.data, file.size, path, model));
out:
    cnn_input_close(&file);
    return status;
}

cnn_status cnn_model_load_signed(const char *path, const char *public_key_path, cnn_model **model)
{
    cnn_public_key key;
    const cnn_status status = cnn_public_key_read(public_key_path, &key);
    return status == CNN_OK ? cnn_model_load_signed_by(path, &key, model) : status;
}

bool cnn_can_sign(void)
{
    return true;
}

#else

bool cnn_can_sign(void)
{
    return false;
}

static cnn_status cannot(void)
{
    return cnn_error(CNN_ERR_UNSUPPORTED,
                     "this build of cnnkit can neither sign models nor check signatures: it was made "
                     "without libsodium; install libsodium-dev and build it again");
}

cnn_status cnn_key_create(const char *name)
{
    (void)name;
    return cannot();
}

cnn_status cnn_model_sign(const char *path, const char *secret_key_path, const char *output, size_t *bytes)
{
    (void)path;
    (void)secret_key_path;
    (void)output;
    (void)bytes;
    return cannot();
}

cnn_status cnn_model_load_signed(const char *path, const char *public_key_path, cnn_model **model)
{
    (void)path;
    (void)public_key_path;
    (void)model;
    return cannot();
}

cnn_status cnn_public_key_read(const char *path, cnn_public_key *key)
{
    (void)path;
    (void)key;
    return cannot();
}

cnn_status cnn_secret_key_check(const char *path)
{
    (void)path;
    return cannot();
}

cnn_status cnn_signature_check(const uint8_t *data, size_t size, const char *path, const cnn_public_key *key)
{
    (void)data;
    (void)size;
    (void)path;
    (void)key;
    return cannot();
}

cnn_status cnn_model_load_signed_by(const char *path, const cnn_public_key *key, cnn_model **model)
{
    (void)path;
    (void)key;
    (void)model;
    return cannot();
}

#endif
