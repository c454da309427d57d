/* What all requests of one simulator share, and its options. Owned by main, outlives every connection. */
#ifndef SIM_SIM_H
#define SIM_SIM_H

#include "behaviour.h"
#include "ledger.h"
#include "limits.h"
#include "rules.h"

struct loop;

struct sim {
	struct loop *loop;
	struct ledger *ledger;
	struct limits *limits;
	struct rules *rules;
	struct limits_rates rates;
	struct behaviour defaults;
	char *key;     /* the only one accepted; NULL: any */
	char *models;  /* more known models, between commas; never NULL */
	char date[40]; /* of the Date field, made once a second */
	int64_t date_second;
};

#endif
