/* What all requests of one simulator share, and its options. Owned by main, outlives every connection. */
#ifndef SIM_SIM_H
#define SIM_SIM_H

#include "behaviour.h"
#include "ledger.h"
#include "limits.h"
#include "rules.h"

struct loop;
struct wire_server;

/* What has become of the whole provider; its control address is spared. */
enum sim_down {
	SIM_UP,
	SIM_BLACKHOLE, /* connections are accepted and requests taken, and nothing comes back until it ends */
	SIM_REFUSE,    /* connections are reset, new ones refused */
	SIM_GARBAGE,   /* every request is answered by what is not HTTP */
};

struct sim {
	struct loop *loop;
	struct ledger *ledger;
	struct limits *limits;
	struct rules *rules;
	struct limits_rates rates;
	struct behaviour defaults;
	struct wire_server *server;
	bool controlled; /* there is a control address */
	enum sim_down down;
	char *key;     /* the only one accepted; NULL: any */
	char *models;  /* more known models, between commas; never NULL */
	char date[40]; /* of the Date field, made once a second */
	int64_t date_second;
};

#endif
