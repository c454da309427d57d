/* Certificates for a test, made with OpenSSL when it starts: a CA, and leaves for 127.0.0.1 and localhost. PEM files
 * in a directory of their own, which tls_files_free removes. */
#ifndef SLUICE_TESTS_TLS_FILES_H
#define SLUICE_TESTS_TLS_FILES_H

struct tls_files {
	char directory[64];
	char ca[96], other_ca[96];           /* certificates of two authorities */
	char leaf[96], leaf_key[96];         /* signed by ca */
	char expired[96], expired_key[96];   /* by ca, until yesterday */
	char stranger[96], stranger_key[96]; /* by ca, for another name */
};

void tls_files_make(struct tls_files *);
void tls_files_free(struct tls_files *);

#endif
