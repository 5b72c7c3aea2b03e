BEGIN TRANSACTION;
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('v3.2.0.a');
CREATE TABLE pairsearch_configurations (
	id INTEGER NOT NULL, 
	study_id INTEGER NOT NULL, 
	"key" TEXT NOT NULL, 
	rank INTEGER NOT NULL, 
	params TEXT NOT NULL, 
	state VARCHAR(16) NOT NULL, 
	errors INTEGER NOT NULL, 
	lapses INTEGER NOT NULL, 
	claims INTEGER NOT NULL, 
	claim VARCHAR(32), 
	worker TEXT, 
	lease_expires DOUBLE, 
	started_at DOUBLE, 
	finished_at DOUBLE, 
	trial_id INTEGER, 
	value DOUBLE, 
	figures TEXT, 
	seconds DOUBLE, 
	reason TEXT, 
	traceback TEXT, 
	provenance TEXT, 
	PRIMARY KEY (id), 
	UNIQUE (study_id, "key"), 
	FOREIGN KEY(study_id) REFERENCES pairsearch_studies (id)
);
INSERT INTO "pairsearch_configurations" VALUES(1,1,'batch_size=10 learning_rate=0.0001 weight_decay=0.0',0,'{"batch_size": 10, "learning_rate": 0.0001, "weight_decay": 0.0}','finished',0,0,1,'88f9e7c7e1aa494e8df890fdf537b686','old:1:abc',NULL,1.79594749775500583648e+09,1.79594749779998660082e+09,1,0.101,'{"train_loss": 0.033666666666666664, "val_loss": 0.101, "val_error": 0.01442857142857143}',0.25,NULL,NULL,'{"host": "here"}');
INSERT INTO "pairsearch_configurations" VALUES(2,1,'batch_size=10 learning_rate=0.0001 weight_decay=0.1',1,'{"batch_size": 10, "learning_rate": 0.0001, "weight_decay": 0.1}','diverged',0,0,1,'10ac2966575342f294bf46a8d21d0ef9','old:1:abc',NULL,1.79594749782698297506e+09,1.79594749785401964188e+09,2,NULL,'{"train_loss": null, "val_loss": null, "val_error": null}',0.25,'fold 1 diverged in epoch 2: a figure became NaN or infinite',NULL,'{"host": "here"}');
INSERT INTO "pairsearch_configurations" VALUES(3,1,'batch_size=10 learning_rate=0.001 weight_decay=0.0',2,'{"batch_size": 10, "learning_rate": 0.001, "weight_decay": 0.0}','failed',1,0,1,NULL,NULL,NULL,NULL,1.7959474978950171471e+09,NULL,NULL,NULL,NULL,'MemoryError: no room (make.py, line 20)','Traceback (most recent call last):
  File "/opt/pairsearch/search/workers/worker.py", line 251, in _attempt
    outcome = self.objective(claim.configuration, progress)
              ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
  File "/opt/pairsearch/tests/tiny.py", line 222, in __call__
    full = self.answer(configuration)
           ^^^^^^^^^^^^^^^^^^^^^^^^^^
  File "/opt/pairsearch/make.py", line 20, in answer
    if c==order[2]: raise MemoryError("no room")
                    ^^^^^^^^^^^^^^^^^^^^^^^^^^^^
MemoryError: no room
',NULL);
INSERT INTO "pairsearch_configurations" VALUES(4,1,'batch_size=25 learning_rate=0.001 weight_decay=0.0',3,'{"batch_size": 25, "learning_rate": 0.001, "weight_decay": 0.0}','finished',0,0,1,'1cd1ed9ceb3f4d518ea5eb1adb13afd3','old:1:abc',NULL,1.79594749790901851652e+09,1.7959474979280085564e+09,4,0.26,'{"train_loss": 0.08666666666666667, "val_loss": 0.26, "val_error": 0.037142857142857144}',0.25,NULL,NULL,'{"host": "here"}');
INSERT INTO "pairsearch_configurations" VALUES(5,1,'batch_size=25 learning_rate=0.001 weight_decay=0.1',4,'{"batch_size": 25, "learning_rate": 0.001, "weight_decay": 0.1}','pending',0,1,1,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "pairsearch_configurations" VALUES(6,1,'batch_size=25 learning_rate=0.0001 weight_decay=0.1',5,'{"batch_size": 25, "learning_rate": 0.0001, "weight_decay": 0.1}','pending',0,1,1,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "pairsearch_configurations" VALUES(7,1,'batch_size=10 learning_rate=0.001 weight_decay=0.1',6,'{"batch_size": 10, "learning_rate": 0.001, "weight_decay": 0.1}','running',0,0,1,'9b13ed7348654626afd542efae84c857','old:2:def',1.79594755800799179079e+09,1.79594749800799179072e+09,NULL,7,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "pairsearch_configurations" VALUES(8,1,'batch_size=25 learning_rate=0.0001 weight_decay=0.0',7,'{"batch_size": 25, "learning_rate": 0.0001, "weight_decay": 0.0}','pending',0,0,0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "pairsearch_configurations" VALUES(9,2,'x=2',0,'{"x": 2}','pending',0,0,0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "pairsearch_configurations" VALUES(10,2,'x=1',1,'{"x": 1}','pending',0,0,0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
CREATE TABLE pairsearch_curves (
	run_id INTEGER NOT NULL, 
	figure VARCHAR(64) NOT NULL, 
	points TEXT NOT NULL, 
	PRIMARY KEY (run_id, figure)
);
INSERT INTO "pairsearch_curves" VALUES(1,'train_loss','[0.36366666666666664, 0.030333333333333337]');
INSERT INTO "pairsearch_curves" VALUES(1,'val_loss','[1.091, 0.09100000000000001]');
INSERT INTO "pairsearch_curves" VALUES(1,'val_error','[0.15585714285714286, 0.013000000000000001]');
INSERT INTO "pairsearch_curves" VALUES(2,'train_loss','[0.37033333333333335, 0.037]');
INSERT INTO "pairsearch_curves" VALUES(2,'val_loss','[1.111, 0.111]');
INSERT INTO "pairsearch_curves" VALUES(2,'val_error','[0.15871428571428572, 0.015857142857142858]');
INSERT INTO "pairsearch_curves" VALUES(3,'train_loss','[0.7, 0.6]');
INSERT INTO "pairsearch_curves" VALUES(3,'val_loss','[0.7, 0.6]');
INSERT INTO "pairsearch_curves" VALUES(3,'val_error','[0.5, 0.4]');
INSERT INTO "pairsearch_curves" VALUES(4,'train_loss','[0.8, null]');
INSERT INTO "pairsearch_curves" VALUES(4,'val_loss','[0.8, null]');
INSERT INTO "pairsearch_curves" VALUES(4,'val_error','[0.5, null]');
INSERT INTO "pairsearch_curves" VALUES(5,'train_loss','[0.4166666666666667, 0.08333333333333333]');
INSERT INTO "pairsearch_curves" VALUES(5,'val_loss','[1.25, 0.25]');
INSERT INTO "pairsearch_curves" VALUES(5,'val_error','[0.17857142857142858, 0.03571428571428571]');
INSERT INTO "pairsearch_curves" VALUES(6,'train_loss','[0.42333333333333334, 0.09000000000000001]');
INSERT INTO "pairsearch_curves" VALUES(6,'val_loss','[1.27, 0.27]');
INSERT INTO "pairsearch_curves" VALUES(6,'val_error','[0.18142857142857144, 0.038571428571428576]');
INSERT INTO "pairsearch_curves" VALUES(7,'running_loss','[2.578829765319824, 1.1450634479522706]');
INSERT INTO "pairsearch_curves" VALUES(7,'train_loss','[1.5382814407348633, 0.6552807807922363]');
INSERT INTO "pairsearch_curves" VALUES(7,'train_error','[0.55, 0.35]');
INSERT INTO "pairsearch_curves" VALUES(7,'test_loss','[2.816914367675781, 1.126369571685791]');
INSERT INTO "pairsearch_curves" VALUES(7,'test_error','[0.8, 0.7]');
INSERT INTO "pairsearch_curves" VALUES(8,'running_loss','[1.6362561225891112, 0.9445976257324219]');
INSERT INTO "pairsearch_curves" VALUES(8,'train_loss','[1.100812816619873, 0.7635768413543701]');
INSERT INTO "pairsearch_curves" VALUES(8,'train_error','[0.55, 0.45]');
INSERT INTO "pairsearch_curves" VALUES(8,'test_loss','[1.3250860214233398, 1.1279211044311523]');
INSERT INTO "pairsearch_curves" VALUES(8,'test_error','[0.5, 0.7]');
INSERT INTO "pairsearch_curves" VALUES(9,'running_loss','[3.0709865570068358, 3.220423126220703]');
INSERT INTO "pairsearch_curves" VALUES(9,'train_loss','[3.2204227447509766, 2.530504608154297]');
INSERT INTO "pairsearch_curves" VALUES(9,'train_error','[0.45, 0.45]');
INSERT INTO "pairsearch_curves" VALUES(9,'test_loss','[1.5105941772460938, 1.2585041999816895]');
INSERT INTO "pairsearch_curves" VALUES(9,'test_error','[0.2, 0.2]');
CREATE TABLE pairsearch_runs (
	id INTEGER NOT NULL, 
	study_id INTEGER NOT NULL, 
	"key" TEXT NOT NULL, 
	kind VARCHAR(8) NOT NULL, 
	run INTEGER NOT NULL, 
	epochs INTEGER NOT NULL, 
	figures TEXT NOT NULL, 
	diverged_epoch INTEGER, 
	seconds DOUBLE, 
	worker TEXT, 
	finished_at DOUBLE, 
	facts TEXT, 
	provenance TEXT, 
	PRIMARY KEY (id), 
	UNIQUE (study_id, "key", kind, run), 
	FOREIGN KEY(study_id) REFERENCES pairsearch_studies (id)
);
INSERT INTO "pairsearch_runs" VALUES(1,1,'batch_size=10 learning_rate=0.0001 weight_decay=0.0','fold',0,2,'{"train_loss": 0.030333333333333337, "val_loss": 0.09100000000000001, "val_error": 0.013000000000000001}',NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "pairsearch_runs" VALUES(2,1,'batch_size=10 learning_rate=0.0001 weight_decay=0.0','fold',1,2,'{"train_loss": 0.037, "val_loss": 0.111, "val_error": 0.015857142857142858}',NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "pairsearch_runs" VALUES(3,1,'batch_size=10 learning_rate=0.0001 weight_decay=0.1','fold',0,2,'{"train_loss": 0.6, "val_loss": 0.6, "val_error": 0.4}',NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "pairsearch_runs" VALUES(4,1,'batch_size=10 learning_rate=0.0001 weight_decay=0.1','fold',1,2,'{}',2,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "pairsearch_runs" VALUES(5,1,'batch_size=25 learning_rate=0.001 weight_decay=0.0','fold',0,2,'{"train_loss": 0.08333333333333333, "val_loss": 0.25, "val_error": 0.03571428571428571}',NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "pairsearch_runs" VALUES(6,1,'batch_size=25 learning_rate=0.001 weight_decay=0.0','fold',1,2,'{"train_loss": 0.09000000000000001, "val_loss": 0.27, "val_error": 0.038571428571428576}',NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "pairsearch_runs" VALUES(7,1,'batch_size=10 learning_rate=0.0001 weight_decay=0.0','round',0,2,'{"running_loss": 1.1450634479522706, "train_loss": 0.6552807807922363, "train_error": 0.35, "test_loss": 1.126369571685791, "test_error": 0.7}',NULL,1.76536190599995279626e+00,'old:1:abc',1.79594750171499252314e+09,'{"parameters": "48,730"}','{"versions": "python 3.11.7 pairsearch 0.1.0 torch 2.14.1 numpy 2.4.6 numba 0.68.1 scipy 1.17.1 scikit-learn 1.9.1 optuna 5.0.0 sqlalchemy 2.1.9", "git_commit": "unknown", "host": "there", "processor": "AMD EPYC", "backend": "compiled", "device": "cpu"}');
INSERT INTO "pairsearch_runs" VALUES(8,1,'batch_size=10 learning_rate=0.0001 weight_decay=0.0','round',1,2,'{"running_loss": 0.9445976257324219, "train_loss": 0.7635768413543701, "train_error": 0.45, "test_loss": 1.1279211044311523, "test_error": 0.7}',NULL,1.76536190599995279626e+00,'old:1:abc',1.79594750171599841113e+09,'{"parameters": "48,730"}','{"versions": "python 3.11.7 pairsearch 0.1.0 torch 2.14.1 numpy 2.4.6 numba 0.68.1 scipy 1.17.1 scikit-learn 1.9.1 optuna 5.0.0 sqlalchemy 2.1.9", "git_commit": "unknown", "host": "there", "processor": "AMD EPYC", "backend": "compiled", "device": "cpu"}');
INSERT INTO "pairsearch_runs" VALUES(9,1,'batch_size=50 learning_rate=0.001 weight_decay=0.0','round',0,2,'{"running_loss": 3.220423126220703, "train_loss": 2.530504608154297, "train_error": 0.45, "test_loss": 1.2585041999816895, "test_error": 0.2}',NULL,8.9889728999878570903e-02,'old:1:abc',1.79594750181098890308e+09,'{"parameters": "48,730"}','{"versions": "python 3.11.7 pairsearch 0.1.0 torch 2.14.1 numpy 2.4.6 numba 0.68.1 scipy 1.17.1 scikit-learn 1.9.1 optuna 5.0.0 sqlalchemy 2.1.9", "git_commit": "unknown", "host": "there", "processor": "AMD EPYC", "backend": "compiled", "device": "cpu"}');
CREATE TABLE pairsearch_schema (
	id INTEGER NOT NULL, 
	version INTEGER NOT NULL, 
	PRIMARY KEY (id)
);
INSERT INTO "pairsearch_schema" VALUES(1,4);
CREATE TABLE pairsearch_studies (
	id INTEGER NOT NULL, 
	name VARCHAR(64) NOT NULL, 
	optuna_study_id INTEGER NOT NULL, 
	definition TEXT NOT NULL, 
	choices TEXT NOT NULL, 
	problem TEXT NOT NULL, 
	created_at DOUBLE NOT NULL, 
	PRIMARY KEY (id), 
	UNIQUE (name)
);
INSERT INTO "pairsearch_studies" VALUES(1,'tiny',1,'{"name":"tiny","title":"","problem":"pairs","settings":{"architecture":"b1","sample_size":20,"validation_size":5,"train_pairs":20,"test_pairs":20},"metric":"val_loss","metrics":{},"seed":7,"folds":2,"epochs":2,"sampler":"grid","pruner":"none","time_limit":null,"allow_changed_files":false,"grid":[{"batch_size":[10,25],"learning_rate":[0.0001,0.001],"weight_decay":[0.0,0.1]}],"evaluation":{"rounds":2,"epochs":null},"paper":null}','{"batch_size": [10, 25], "learning_rate": [0.0001, 0.001], "weight_decay": [0.0, 0.1]}','{"version": 2, "fingerprint": "c94bdff5e96389046d5176d1b4b68c1cb9f47eab0751fa2f46de0102070fef22", "metrics": {"train_loss": {"label": "training loss", "percent": false, "maximise": false, "unit": "nats", "training": true}, "train_error": {"label": "training error", "percent": true, "maximise": false, "unit": "fraction of 1", "training": true}, "val_loss": {"label": "validation loss", "percent": false, "maximise": false, "unit": "nats", "training": false}, "val_error": {"label": "validation error", "percent": true, "maximise": false, "unit": "fraction of 1", "training": false}, "running_loss": {"label": "running training loss", "percent": false, "maximise": false, "unit": "nats", "training": true}, "test_loss": {"label": "test loss", "percent": false, "maximise": false, "unit": "nats", "training": false}, "test_error": {"label": "test error", "percent": true, "maximise": false, "unit": "fraction of 1", "training": false}}, "files": {}, "validated": ["train_loss", "val_loss", "val_error"], "evaluated": ["train_error", "test_error"], "overlap": 0.0, "together": true, "remember": {"data": "digits"}, "worker_bytes": 536870912}',1.7959474977000072002e+09);
INSERT INTO "pairsearch_studies" VALUES(2,'turns',2,'{"name":"turns","title":"","problem":"mine.py:Mine","settings":{},"metric":"val_loss","metrics":{},"seed":7,"folds":2,"epochs":2,"sampler":"grid","pruner":"none","time_limit":null,"allow_changed_files":false,"grid":[{"x":[1,2]}],"evaluation":{"rounds":10,"epochs":null},"paper":null}','{"x": [1, 2]}','{"version": 1, "fingerprint": "", "metrics": {"train_loss": {"label": "training loss", "percent": false, "maximise": false, "unit": "nats", "training": true}, "train_error": {"label": "training error", "percent": true, "maximise": false, "unit": "fraction of 1", "training": true}, "val_loss": {"label": "validation loss", "percent": false, "maximise": false, "unit": "nats", "training": false}, "val_error": {"label": "validation error", "percent": true, "maximise": false, "unit": "fraction of 1", "training": false}, "running_loss": {"label": "running training loss", "percent": false, "maximise": false, "unit": "nats", "training": true}, "test_loss": {"label": "test loss", "percent": false, "maximise": false, "unit": "nats", "training": false}, "test_error": {"label": "test error", "percent": true, "maximise": false, "unit": "fraction of 1", "training": false}}, "files": {}, "validated": ["train_loss", "val_loss", "val_error"], "evaluated": [], "overlap": 0.0, "together": false, "remember": {}}',1.79594750199199771883e+09);
CREATE TABLE pairsearch_superseded (
	id INTEGER NOT NULL, 
	configuration_id INTEGER NOT NULL, 
	claim VARCHAR(32) NOT NULL, 
	worker TEXT NOT NULL, 
	value DOUBLE, 
	arrived_at DOUBLE NOT NULL, 
	PRIMARY KEY (id), 
	FOREIGN KEY(configuration_id) REFERENCES pairsearch_configurations (id)
);
INSERT INTO "pairsearch_superseded" VALUES(1,6,'36eb3421ad0642948036349d9572c1ff','old:3:aaa',0.351,1.79594749799700832367e+09);
CREATE TABLE studies (
	study_id INTEGER NOT NULL, 
	study_name VARCHAR(512) NOT NULL, 
	PRIMARY KEY (study_id)
);
INSERT INTO "studies" VALUES(1,'tiny');
INSERT INTO "studies" VALUES(2,'turns');
CREATE TABLE study_directions (
	study_direction_id INTEGER NOT NULL, 
	direction VARCHAR(8) NOT NULL, 
	study_id INTEGER NOT NULL, 
	objective INTEGER NOT NULL, 
	PRIMARY KEY (study_direction_id), 
	UNIQUE (study_id, objective), 
	FOREIGN KEY(study_id) REFERENCES studies (study_id)
);
INSERT INTO "study_directions" VALUES(1,'MINIMIZE',1,0);
INSERT INTO "study_directions" VALUES(2,'MINIMIZE',2,0);
CREATE TABLE study_system_attributes (
	study_system_attribute_id INTEGER NOT NULL, 
	study_id INTEGER, 
	"key" VARCHAR(512), 
	value_json TEXT, 
	PRIMARY KEY (study_system_attribute_id), 
	UNIQUE (study_id, "key"), 
	FOREIGN KEY(study_id) REFERENCES studies (study_id)
);
INSERT INTO "study_system_attributes" VALUES(1,1,'dashboard:objective_names','["val_loss"]');
INSERT INTO "study_system_attributes" VALUES(2,1,'pairsearch:note_sha256','"3805dce663929e7b91f472a3b556067322df3723fa03a8580de8d44530341094"');
INSERT INTO "study_system_attributes" VALUES(3,1,'dashboard:note_str:0','"# tiny\n\nA grid search by pairsearch.\n\n| | |\n|---|---|\n| problem | pairs |\n| settings | architecture b1\\, sample\\_size 20\\, validation\\_size 5\\, train\\_pairs 20\\, test\\_pairs 20 |\n| protocol | 2 folds, 2 epochs |\n| data | digits c94bdff5e963 |\n| configurations | 8, sampler grid, pruner none |\n| seed | 7 |\n| definition | 3b4768524396... |\n\n## Grid\n\n| parameter | values |\n|---|---|\n| batch\\_size | 10, 25 |\n| learning\\_rate | 0.0001, 0.001 |\n| weight\\_decay | 0, 0.1 |\n\n## How to read it\n\n* The **value** of a trial is the mean validation loss over the folds after the last epoch; lower is better. The\n  intermediate values are the same mean after earlier epochs.\n* **Complete**: a result. **Pruned**: a figure became NaN or infinite (diverged), or the pruner stopped it; that is a\n  result too. **Fail**: an attempt without a result, of a worker that was stopped or died or raised an exception; the\n  configuration was tried again, or the reason is in `failed_reason`.\n* User attributes of a trial: `configuration` is its key in pairsearch''s tables, `folds` has the figures of each fold,\n  `provenance` the versions and the processor that computed it.\n\npairsearch''s own tables decide what is searched: look here, but do not add, change or delete trials. All figures:\n`pairsearch export tiny`; the verdict over fresh rounds: `pairsearch evaluate tiny`.\n"');
INSERT INTO "study_system_attributes" VALUES(4,1,'dashboard:note_ver','1');
INSERT INTO "study_system_attributes" VALUES(5,2,'dashboard:objective_names','["val_loss"]');
INSERT INTO "study_system_attributes" VALUES(6,2,'pairsearch:note_sha256','"d7d51d7f4428ee382b2ea7dea7d560d61035498e1810ee3afa29f0d0fa22275f"');
INSERT INTO "study_system_attributes" VALUES(7,2,'dashboard:note_str:0','"# turns\n\nA grid search by pairsearch.\n\n| | |\n|---|---|\n| problem | mine\\.py\\:Mine |\n| protocol | 2 folds, 2 epochs |\n| configurations | 2, sampler grid, pruner none |\n| seed | 7 |\n| definition | eb9101322c2c... |\n\n## Grid\n\n| parameter | values |\n|---|---|\n| x | 1, 2 |\n\n## How to read it\n\n* The **value** of a trial is the mean validation loss over the folds after the last epoch; lower is better. The\n  intermediate values are the same mean after earlier epochs.\n* **Complete**: a result. **Pruned**: a figure became NaN or infinite (diverged), or the pruner stopped it; that is a\n  result too. **Fail**: an attempt without a result, of a worker that was stopped or died or raised an exception; the\n  configuration was tried again, or the reason is in `failed_reason`.\n* User attributes of a trial: `configuration` is its key in pairsearch''s tables, `folds` has the figures of each fold,\n  `provenance` the versions and the processor that computed it.\n\npairsearch''s own tables decide what is searched: look here, but do not add, change or delete trials. All figures:\n`pairsearch export turns`; the verdict over fresh rounds: `pairsearch evaluate turns`.\n"');
INSERT INTO "study_system_attributes" VALUES(8,2,'dashboard:note_ver','1');
CREATE TABLE study_user_attributes (
	study_user_attribute_id INTEGER NOT NULL, 
	study_id INTEGER, 
	"key" VARCHAR(512), 
	value_json TEXT, 
	PRIMARY KEY (study_user_attribute_id), 
	UNIQUE (study_id, "key"), 
	FOREIGN KEY(study_id) REFERENCES studies (study_id)
);
INSERT INTO "study_user_attributes" VALUES(1,1,'title','""');
INSERT INTO "study_user_attributes" VALUES(2,1,'problem','"pairs"');
INSERT INTO "study_user_attributes" VALUES(3,1,'protocol','"2 folds, 2 epochs"');
INSERT INTO "study_user_attributes" VALUES(4,1,'metric','"mean val_loss over folds after the last epoch"');
INSERT INTO "study_user_attributes" VALUES(5,1,'data','"digits c94bdff5e963"');
INSERT INTO "study_user_attributes" VALUES(6,1,'definition','"3b4768524396"');
INSERT INTO "study_user_attributes" VALUES(7,2,'title','""');
INSERT INTO "study_user_attributes" VALUES(8,2,'problem','"mine.py:Mine"');
INSERT INTO "study_user_attributes" VALUES(9,2,'protocol','"2 folds, 2 epochs"');
INSERT INTO "study_user_attributes" VALUES(10,2,'metric','"mean val_loss over folds after the last epoch"');
INSERT INTO "study_user_attributes" VALUES(11,2,'data','""');
INSERT INTO "study_user_attributes" VALUES(12,2,'definition','"eb9101322c2c"');
CREATE TABLE trial_heartbeats (
	trial_heartbeat_id INTEGER NOT NULL, 
	trial_id INTEGER NOT NULL, 
	heartbeat DATETIME NOT NULL, 
	PRIMARY KEY (trial_heartbeat_id), 
	UNIQUE (trial_id), 
	FOREIGN KEY(trial_id) REFERENCES trials (trial_id)
);
CREATE TABLE trial_intermediate_values (
	trial_intermediate_value_id INTEGER NOT NULL, 
	trial_id INTEGER NOT NULL, 
	step INTEGER NOT NULL, 
	intermediate_value FLOAT, 
	intermediate_value_type VARCHAR(7) NOT NULL, 
	PRIMARY KEY (trial_intermediate_value_id), 
	UNIQUE (trial_id, step), 
	FOREIGN KEY(trial_id) REFERENCES trials (trial_id)
);
INSERT INTO "trial_intermediate_values" VALUES(1,1,1,1.101,'FINITE');
INSERT INTO "trial_intermediate_values" VALUES(2,1,2,0.101,'FINITE');
INSERT INTO "trial_intermediate_values" VALUES(3,2,1,0.75,'FINITE');
INSERT INTO "trial_intermediate_values" VALUES(4,4,1,1.26,'FINITE');
INSERT INTO "trial_intermediate_values" VALUES(5,4,2,0.26,'FINITE');
CREATE TABLE trial_params (
	param_id INTEGER NOT NULL, 
	trial_id INTEGER, 
	param_name VARCHAR(512), 
	param_value FLOAT, 
	distribution_json TEXT, 
	PRIMARY KEY (param_id), 
	UNIQUE (trial_id, param_name), 
	FOREIGN KEY(trial_id) REFERENCES trials (trial_id)
);
INSERT INTO "trial_params" VALUES(1,1,'batch_size',0.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [10, 25]}}');
INSERT INTO "trial_params" VALUES(2,1,'learning_rate',0.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [0.0001, 0.001]}}');
INSERT INTO "trial_params" VALUES(3,1,'weight_decay',0.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [0.0, 0.1]}}');
INSERT INTO "trial_params" VALUES(4,2,'batch_size',0.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [10, 25]}}');
INSERT INTO "trial_params" VALUES(5,2,'learning_rate',0.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [0.0001, 0.001]}}');
INSERT INTO "trial_params" VALUES(6,2,'weight_decay',1.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [0.0, 0.1]}}');
INSERT INTO "trial_params" VALUES(7,3,'batch_size',0.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [10, 25]}}');
INSERT INTO "trial_params" VALUES(8,3,'learning_rate',1.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [0.0001, 0.001]}}');
INSERT INTO "trial_params" VALUES(9,3,'weight_decay',0.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [0.0, 0.1]}}');
INSERT INTO "trial_params" VALUES(10,4,'batch_size',1.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [10, 25]}}');
INSERT INTO "trial_params" VALUES(11,4,'learning_rate',1.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [0.0001, 0.001]}}');
INSERT INTO "trial_params" VALUES(12,4,'weight_decay',0.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [0.0, 0.1]}}');
INSERT INTO "trial_params" VALUES(13,5,'batch_size',1.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [10, 25]}}');
INSERT INTO "trial_params" VALUES(14,5,'learning_rate',1.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [0.0001, 0.001]}}');
INSERT INTO "trial_params" VALUES(15,5,'weight_decay',1.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [0.0, 0.1]}}');
INSERT INTO "trial_params" VALUES(16,6,'batch_size',1.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [10, 25]}}');
INSERT INTO "trial_params" VALUES(17,6,'learning_rate',0.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [0.0001, 0.001]}}');
INSERT INTO "trial_params" VALUES(18,6,'weight_decay',1.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [0.0, 0.1]}}');
INSERT INTO "trial_params" VALUES(19,7,'batch_size',0.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [10, 25]}}');
INSERT INTO "trial_params" VALUES(20,7,'learning_rate',1.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [0.0001, 0.001]}}');
INSERT INTO "trial_params" VALUES(21,7,'weight_decay',1.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [0.0, 0.1]}}');
CREATE TABLE trial_system_attributes (
	trial_system_attribute_id INTEGER NOT NULL, 
	trial_id INTEGER, 
	"key" VARCHAR(512), 
	value_json TEXT, 
	PRIMARY KEY (trial_system_attribute_id), 
	UNIQUE (trial_id, "key"), 
	FOREIGN KEY(trial_id) REFERENCES trials (trial_id)
);
CREATE TABLE trial_user_attributes (
	trial_user_attribute_id INTEGER NOT NULL, 
	trial_id INTEGER, 
	"key" VARCHAR(512), 
	value_json TEXT, 
	PRIMARY KEY (trial_user_attribute_id), 
	UNIQUE (trial_id, "key"), 
	FOREIGN KEY(trial_id) REFERENCES trials (trial_id)
);
INSERT INTO "trial_user_attributes" VALUES(1,1,'configuration','"batch_size=10 learning_rate=0.0001 weight_decay=0.0"');
INSERT INTO "trial_user_attributes" VALUES(2,1,'claim','"88f9e7c7e1aa494e8df890fdf537b686"');
INSERT INTO "trial_user_attributes" VALUES(3,1,'worker','"old:1:abc"');
INSERT INTO "trial_user_attributes" VALUES(4,1,'provenance','{"host": "here"}');
INSERT INTO "trial_user_attributes" VALUES(5,1,'folds','{"train_loss": [0.030333333333333337, 0.037], "val_loss": [0.09100000000000001, 0.111], "val_error": [0.013000000000000001, 0.015857142857142858], "seconds": 0.25}');
INSERT INTO "trial_user_attributes" VALUES(6,2,'configuration','"batch_size=10 learning_rate=0.0001 weight_decay=0.1"');
INSERT INTO "trial_user_attributes" VALUES(7,2,'claim','"10ac2966575342f294bf46a8d21d0ef9"');
INSERT INTO "trial_user_attributes" VALUES(8,2,'worker','"old:1:abc"');
INSERT INTO "trial_user_attributes" VALUES(9,2,'provenance','{"host": "here"}');
INSERT INTO "trial_user_attributes" VALUES(10,2,'folds','{"train_loss": [0.6, null], "val_loss": [0.6, null], "val_error": [0.4, null], "seconds": 0.25, "reason": "fold 1 diverged in epoch 2: a figure became NaN or infinite"}');
INSERT INTO "trial_user_attributes" VALUES(11,3,'configuration','"batch_size=10 learning_rate=0.001 weight_decay=0.0"');
INSERT INTO "trial_user_attributes" VALUES(12,3,'claim','"ad5edc325cd44dee9eacef5409f92336"');
INSERT INTO "trial_user_attributes" VALUES(13,3,'worker','"old:1:abc"');
INSERT INTO "trial_user_attributes" VALUES(14,3,'provenance','{"host": "here"}');
INSERT INTO "trial_user_attributes" VALUES(15,3,'failed_reason','"MemoryError: no room (make.py, line 20)"');
INSERT INTO "trial_user_attributes" VALUES(16,4,'configuration','"batch_size=25 learning_rate=0.001 weight_decay=0.0"');
INSERT INTO "trial_user_attributes" VALUES(17,4,'claim','"1cd1ed9ceb3f4d518ea5eb1adb13afd3"');
INSERT INTO "trial_user_attributes" VALUES(18,4,'worker','"old:1:abc"');
INSERT INTO "trial_user_attributes" VALUES(19,4,'provenance','{"host": "here"}');
INSERT INTO "trial_user_attributes" VALUES(20,4,'folds','{"train_loss": [0.08333333333333333, 0.09000000000000001], "val_loss": [0.25, 0.27], "val_error": [0.03571428571428571, 0.038571428571428576], "seconds": 0.25}');
INSERT INTO "trial_user_attributes" VALUES(21,5,'configuration','"batch_size=25 learning_rate=0.001 weight_decay=0.1"');
INSERT INTO "trial_user_attributes" VALUES(22,5,'claim','"3e1bedb21270479f8d5ed74576339031"');
INSERT INTO "trial_user_attributes" VALUES(23,5,'worker','"old:2:def"');
INSERT INTO "trial_user_attributes" VALUES(24,5,'provenance','{"host": "there"}');
INSERT INTO "trial_user_attributes" VALUES(25,6,'configuration','"batch_size=25 learning_rate=0.0001 weight_decay=0.1"');
INSERT INTO "trial_user_attributes" VALUES(26,6,'claim','"36eb3421ad0642948036349d9572c1ff"');
INSERT INTO "trial_user_attributes" VALUES(27,6,'worker','"old:3:aaa"');
INSERT INTO "trial_user_attributes" VALUES(28,6,'provenance','{"host": "there"}');
INSERT INTO "trial_user_attributes" VALUES(29,7,'configuration','"batch_size=10 learning_rate=0.001 weight_decay=0.1"');
INSERT INTO "trial_user_attributes" VALUES(30,7,'claim','"9b13ed7348654626afd542efae84c857"');
INSERT INTO "trial_user_attributes" VALUES(31,7,'worker','"old:2:def"');
INSERT INTO "trial_user_attributes" VALUES(32,7,'provenance','{"host": "there"}');
CREATE TABLE trial_values (
	trial_value_id INTEGER NOT NULL, 
	trial_id INTEGER NOT NULL, 
	objective INTEGER NOT NULL, 
	value FLOAT, 
	value_type VARCHAR(7) NOT NULL, 
	PRIMARY KEY (trial_value_id), 
	UNIQUE (trial_id, objective), 
	FOREIGN KEY(trial_id) REFERENCES trials (trial_id)
);
INSERT INTO "trial_values" VALUES(1,1,0,0.101,'FINITE');
INSERT INTO "trial_values" VALUES(2,4,0,0.26,'FINITE');
CREATE TABLE trials (
	trial_id INTEGER NOT NULL, 
	number INTEGER, 
	study_id INTEGER, 
	state VARCHAR(8) NOT NULL, 
	datetime_start DATETIME, 
	datetime_complete DATETIME, 
	PRIMARY KEY (trial_id), 
	FOREIGN KEY(study_id) REFERENCES studies (study_id)
);
INSERT INTO "trials" VALUES(1,0,1,'COMPLETE','2026-11-29 10:18:17.756258','2026-11-29 10:18:17.811752');
INSERT INTO "trials" VALUES(2,1,1,'PRUNED','2026-11-29 10:18:17.828039','2026-11-29 10:18:17.855923');
INSERT INTO "trials" VALUES(3,2,1,'FAIL','2026-11-29 10:18:17.857238','2026-11-29 10:18:17.896253');
INSERT INTO "trials" VALUES(4,3,1,'COMPLETE','2026-11-29 10:18:17.910295','2026-11-29 10:18:17.936810');
INSERT INTO "trials" VALUES(5,4,1,'RUNNING','2026-11-29 10:18:17.956649',NULL);
INSERT INTO "trials" VALUES(6,5,1,'RUNNING','2026-11-29 10:18:17.978409',NULL);
INSERT INTO "trials" VALUES(7,6,1,'RUNNING','2026-11-29 10:18:18.008289',NULL);
CREATE TABLE version_info (
	version_info_id INTEGER NOT NULL, 
	schema_version INTEGER, 
	library_version VARCHAR(256), 
	PRIMARY KEY (version_info_id), 
	CHECK (version_info_id=1)
);
INSERT INTO "version_info" VALUES(1,12,'5.0.0');
CREATE INDEX pairsearch_configurations_claim ON pairsearch_configurations (study_id, state, lapses, errors, rank);
CREATE UNIQUE INDEX ix_studies_study_name ON studies (study_name);
CREATE INDEX ix_trials_study_id ON trials (study_id);
COMMIT;
